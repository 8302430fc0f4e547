/** Cuts that nobody notices, and cuts that end what went over the link. */
import { linkCuts } from './ssh-cuts.ts'

linkCuts([5, 25])
