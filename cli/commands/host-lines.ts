/** What commands about hosts read and say. */
import { readFile } from 'node:fs/promises'
import { knownHosts } from '../../hosts/ssh/index.ts'
import { HoldfastError } from '../../model/errors.ts'
import type { HostView } from '../../model/views.ts'
import { note, print } from '../terminal.ts'

export const sshUrlOf = (host: HostView): string =>
  `ssh://${host.user}@${host.address?.includes(':') ? `[${host.address}]` : host.address}:${host.port}`

export function tellOfKey(host: HostView): void {
  if (host.hostKeys.length > 0 && host.shownKey === null) return
  if (host.shownKey === null) {
    note(`It does not answer. When it does: holdfast host trust ${host.name}`)
    return
  }
  const { type, fingerprint } = host.shownKey
  const agreed = host.hostKeys.some(key => key.fingerprint === fingerprint)
  print(`It shows the key ${type} ${fingerprint}${agreed ? ', which is agreed to.' : '.'}`)
  if (!agreed) {
    note(`If that is the key of the machine: holdfast host trust ${host.name} --fingerprint ${fingerprint}`)
  }
}

/** The keys that a known_hosts file has for the machine of this address. */
export const keysIn = async (file: string, url: string): Promise<string[]> =>
  knownHosts(await textOf(file), ...addressOf(url))

function addressOf(url: string): [string, number] {
  const match = /@(\[[^\]]+\]|[^@:/]+)(?::(\d+))?\/?$/.exec(url)
  return [(match?.[1] ?? '').replace(/^\[|\]$/g, ''), Number(match?.[2] ?? 22)]
}

export const textOf = (path: string): Promise<string> =>
  readFile(path, 'utf8').catch(error => {
    throw new HoldfastError('request.invalid', `The file ${path} cannot be read: ${String(error.message)}.`)
  })
