/** What every host does, and is too slow to try with every shell. */
import { attachedJobs } from './conformance-attached.ts'
import { detachedJobs } from './conformance-detached.ts'
import { files } from './conformance-files.ts'
import { leashes } from './conformance-leash.ts'
import { local } from './subject.ts'

const subject = local(['sh'])
attachedJobs(subject)
detachedJobs(subject)
leashes(subject)
files(subject)
