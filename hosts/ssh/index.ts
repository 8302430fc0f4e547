/** A machine over SSH. Nothing is dialled before something is to be done there. */
import { hostAt } from '../at.ts'
import type { Host } from '../host.ts'
import type { Reach } from '../place.ts'
import { type Link, type Login, openLink } from './link.ts'
import { sshReach } from './reach.ts'

export { sudoLines } from './channel.ts'
export { fingerprint, isHostKey, keyType, knownHosts } from './keys.ts'
export { type Link, type Login, shownKey } from './link.ts'

export interface SshHost {
  host: Host
  /** Its shell, for whoever keeps files there. */
  script: Reach['script']
  /** For machines that are reached through this one. */
  link: Link
}

/** `stagingRoot`: an absolute path there; made if need be, for the user that everything runs as. */
export function openSshHost(options: { login: Login; runAs: string | null; stagingRoot: string }): SshHost {
  const { login, runAs, stagingRoot } = options
  const link = openLink(login)
  const reach = sshReach({ name: login.name, link, user: login.user, runAs }, stagingRoot)
  return { host: hostAt({ name: login.name, stagingRoot, reach }), script: reach.script, link }
}
