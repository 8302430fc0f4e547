/** A cut after which nothing that was attached lives any more, on either side. */
import { linkCuts } from './ssh-cuts.ts'

linkCuts([90])
