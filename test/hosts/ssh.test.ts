/** What every host does, on a machine over SSH. */
import { after } from 'node:test'
import { sshUserId, startSshd } from '../servers/sshd.ts'
import { attachedBasics, attachedJobs } from './conformance-attached.ts'
import { detachedBasics, detachedJobs } from './conformance-detached.ts'
import { files } from './conformance-files.ts'
import { leashes } from './conformance-leash.ts'
import { secrets } from './conformance-secrets.ts'
import { closeLinks, ssh } from './subject.ts'

const server = await startSshd()
const subject = await ssh(server, null, { uid: sshUserId, gid: sshUserId })
after(async () => {
  closeLinks()
  await server.stop()
})
attachedBasics(subject)
attachedJobs(subject)
detachedBasics(subject)
detachedJobs(subject)
leashes(subject)
files(subject)
secrets(subject)
