/** The hosts that a process has open, by name: `local`, and machines over SSH as the catalog knows them. */
import { createHash } from 'node:crypto'
import { HoldfastError } from '../model/errors.ts'
import type { HostAccess } from '../model/records.ts'
import type { Host } from './host.ts'
import type { Reach } from './place.ts'
import { type Login, openSshHost, type SshHost } from './ssh/index.ts'

export interface HostPool {
  /** Opened as the catalog says now: a key or a password that was changed is used from the next call on. */
  host(name: string): Promise<Host>
  /**
   * A shell of a machine over SSH, for whoever keeps files there. Over a connection of its own: what is read for hours must
   * not take the room of jobs that wait for it.
   */
  shell(name: string): Promise<HostShell>
  /** Ends every connection. */
  close(): void
}

export interface HostShell {
  readonly name: string
  script: Reach['script']
}

/** A chain of jump hosts longer than this is a circle. */
const longest = 4

export function hostPool(options: {
  local: () => Promise<Host>
  access: (name: string) => Promise<HostAccess>
}): HostPool {
  const open = new Map<string, { revision: string; opened: SshHost }>()

  const opened = async (name: string, purpose: 'jobs' | 'files', depth = 0): Promise<SshHost> => {
    if (depth === longest) {
      throw new HoldfastError(
        'request.invalid',
        `Host ${name} is reached through more than ${longest} others.`,
      )
    }
    const access = await options.access(name)
    const { through } = access.record.settings
    const jump = through === null ? undefined : await opened(through, 'jobs', depth + 1)
    const revision = createHash('sha256').update(JSON.stringify(access)).digest('hex')
    const key = `${purpose} ${name}`
    const known = open.get(key)
    if (known?.revision === revision) return known.opened
    // Jobs under way keep the old connection until they end; it closes by itself when it is idle.
    const made = openSshHost(sshOptions(access, jump))
    open.set(key, { revision, opened: made })
    return made
  }
  return {
    host: async name => (name === 'local' ? await options.local() : (await opened(name, 'jobs')).host),
    shell: async name => ({ name, script: (await opened(name, 'files')).script }),
    close() {
      for (const { opened: one } of open.values()) one.link.close()
      open.clear()
    },
  }
}

export function loginOf({ record, secrets }: HostAccess, through?: SshHost): Login {
  const { address, port, user, agent } = record.settings
  const { password, privateKey, passphrase } = secrets
  return {
    name: record.name,
    address,
    port,
    user,
    hostKeys: record.hostKeys,
    agent,
    ...(password === undefined ? {} : { password }),
    ...(privateKey === undefined ? {} : { privateKey }),
    ...(passphrase === undefined ? {} : { passphrase }),
    ...(through ? { through: through.link } : {}),
  }
}

const sshOptions = (access: HostAccess, through: SshHost | undefined) => ({
  login: loginOf(access, through),
  runAs: access.record.settings.runAs,
  stagingRoot: access.record.settings.tempDir,
})
