/** What every host does, by the first shell. Run by host-worker.test.ts as a program of its own. */
import { attachedBasics, attachedJobs } from './conformance-attached.ts'
import { detachedBasics, detachedJobs } from './conformance-detached.ts'
import { files } from './conformance-files.ts'
import { leashes } from './conformance-leash.ts'
import { secrets } from './conformance-secrets.ts'
import { local } from './subject.ts'

const subject = local(['sh'])
attachedBasics(subject)
attachedJobs(subject)
detachedBasics(subject)
detachedJobs(subject)
leashes(subject)
files(subject)
secrets(subject)
