/** What every host does, on a machine over SSH whose login becomes another user by sudo. */
import { execFile } from 'node:child_process'
import { after } from 'node:test'
import { promisify } from 'node:util'
import { startSshd } from '../servers/sshd.ts'
import { attachedBasics, attachedJobs } from './conformance-attached.ts'
import { detachedBasics, detachedJobs } from './conformance-detached.ts'
import { files } from './conformance-files.ts'
import { leashes } from './conformance-leash.ts'
import { secrets } from './conformance-secrets.ts'
import { closeLinks, ssh } from './subject.ts'

const number = async (flag: string) =>
  Number((await promisify(execFile)('id', [flag, 'postgres'])).stdout.trim())
// A profile that greets must not end up in anybody's output.
const server = await startSshd({ sudo: true, greeting: 'Welcome to the database host.' })
const subject = await ssh(server, 'postgres', { uid: await number('-u'), gid: await number('-g') })
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
