/** Machines over SSH as the API knows them: their address, and the key that they show. */
import { hostSecrets, readSshHost, type StoredHost } from '../catalog/hosts.ts'
import { resolveSecrets } from '../catalog/secret-references.ts'
import { loginOf } from '../hosts/index.ts'
import { isHostKey, openSshHost, type SshHost, shownKey } from '../hosts/ssh/index.ts'
import { HoldfastError } from '../model/errors.ts'
import type { SshSettings } from '../model/records.ts'
import type { ApiContext } from './context.ts'
import { InvalidRequest } from './problem.ts'

/** Throws for what is not `ssh://USER@ADDRESS[:PORT]`. */
export function sshAddress(text: string): Pick<SshSettings, 'address' | 'port' | 'user'> {
  const url = /^ssh:\/\/([^@/:]+)@(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(?::(\d{1,5}))?\/?$/.exec(text)
  const port = Number(url?.[3] ?? 22)
  const user = decoded(url?.[1] ?? '')
  if (!url || user === undefined || port < 1 || port > 65_535) {
    throw new InvalidRequest([{ path: 'url', message: 'must be ssh://USER@ADDRESS[:PORT], or worker:' }])
  }
  return { address: (url[2] ?? '').replace(/^\[|\]$/g, ''), port, user }
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

export function assertHostKeys(keys: readonly string[]): void {
  const bad = keys.findIndex(key => !isHostKey(key))
  if (bad === -1) return
  throw new InvalidRequest([{ path: `hostKeys.${bad}`, message: 'is not a public key as OpenSSH writes it' }])
}

/** The key that it shows now; nothing is sent there but the wish to talk. */
export async function keyOf(
  context: ApiContext,
  host: StoredHost<SshSettings>,
  secrets: Record<string, string>,
): Promise<string> {
  const { through } = host.settings
  const jump = through === null ? undefined : await jumpHost(context, through)
  try {
    return await shownKey(loginOf({ record: host, secrets }, jump))
  } finally {
    jump?.link.close()
  }
}

async function jumpHost(context: ApiContext, name: string, depth = 0): Promise<SshHost> {
  const record = await readSshHost(context.catalog, name)
  const { through, runAs, tempDir } = record.settings
  if (depth > 3) throw new HoldfastError('request.invalid', `Host ${name} is too many hosts away.`)
  const jump = through === null ? undefined : await jumpHost(context, through, depth + 1)
  const secrets = await resolveSecrets(await hostSecrets(context.catalog, name))
  return openSshHost({ login: loginOf({ record, secrets }, jump), runAs, stagingRoot: tempDir })
}

/** For machines that are off. */
export const passOver = (error: unknown): null => {
  if (error instanceof HoldfastError) return null
  throw error
}
