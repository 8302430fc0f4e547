/** Host keys: how they are named, compared, and found in known_hosts files. */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { HoldfastError } from '../../model/errors.ts'

/** A public key as OpenSSH writes it: `ssh-ed25519 AAAA…`. */
export type HostKey = string

const keyPattern = /^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) ([A-Za-z0-9+/]+={0,2})$/

/** The kinds that ssh2 can check; stronger ones first, and what an old server may offer last. */
const algorithms = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'rsa-sha2-512',
  'rsa-sha2-256',
  'ssh-rsa',
] as const
export type HostKeyAlgorithm = (typeof algorithms)[number]

/** From the bytes that a server shows. */
export function hostKey(blob: Buffer): HostKey {
  const length = blob.readUInt32BE(0)
  return `${blob.subarray(4, 4 + length).toString('latin1')} ${blob.toString('base64')}`
}

/** As `ssh-keygen -l` prints it. */
export function fingerprint(key: HostKey): string {
  const bytes = Buffer.from(key.split(' ')[1] ?? '', 'base64')
  return `SHA256:${createHash('sha256').update(bytes).digest('base64').replace(/=+$/, '')}`
}

export const keyType = (key: HostKey): string => key.split(' ')[0] ?? ''

export function isHostKey(text: string): boolean {
  if (!keyPattern.test(text)) return false
  const blob = Buffer.from(text.split(' ')[1] ?? '', 'base64')
  return blob.length > 4 && keyType(hostKey(blob)) === keyType(text)
}

/** Asks the server for a key of a kind we know first: it has one of each. */
export function preferred(pinned: readonly HostKey[]): HostKeyAlgorithm[] {
  const types = new Set(pinned.map(keyType))
  const known = (one: string) => types.has(one) || (one.startsWith('rsa-') && types.has('ssh-rsa'))
  return [...algorithms.filter(known), ...algorithms.filter(one => !known(one))]
}

/**
 * The keys that a known_hosts file has for an address. Throws `request.invalid` when the file revokes one of them, or has
 * none: certificates of host authorities are not understood.
 */
export function knownHosts(text: string, address: string, port: number): HostKey[] {
  const name = port === 22 ? address.toLowerCase() : `[${address.toLowerCase()}]:${port}`
  const found: HostKey[] = []
  const revoked: HostKey[] = []
  for (const line of text.split('\n')) {
    const words = line.trim().split(/\s+/)
    if (words[0] === '' || words[0]?.startsWith('#')) continue
    const marker = words[0]?.startsWith('@') ? words.shift() : undefined
    const [patterns = '', type = '', base64 = ''] = words
    const key = `${type} ${base64}`
    if (!matches(patterns, name) || !keyPattern.test(key)) continue
    if (marker === '@revoked') revoked.push(key)
    else if (marker === undefined) found.push(key)
  }
  const bad = found.find(key => revoked.includes(key)) ?? (found.length === 0 ? revoked[0] : undefined)
  if (bad !== undefined) {
    throw new HoldfastError(
      'request.invalid',
      `The known_hosts file revokes the key ${fingerprint(bad)} of ${name}.`,
    )
  }
  if (found.length === 0) {
    throw new HoldfastError('request.invalid', `The known_hosts file has no key for ${name}.`)
  }
  return [...new Set(found)]
}

function matches(patterns: string, name: string): boolean {
  if (patterns.startsWith('|1|')) {
    const [, , salt = '', hash = ''] = patterns.split('|')
    const wanted = Buffer.from(hash, 'base64')
    const got = createHmac('sha1', Buffer.from(salt, 'base64')).update(name).digest()
    return wanted.length === got.length && timingSafeEqual(wanted, got)
  }
  let yes = false
  for (const pattern of patterns.toLowerCase().split(',')) {
    const negated = pattern.startsWith('!')
    const glob = (negated ? pattern.slice(1) : pattern)
      .replace(/[.+^${}()|[\]\\]/g, '\\$&')
      .replaceAll('*', '.*')
      .replaceAll('?', '.')
    if (!new RegExp(`^${glob}$`).test(name)) continue
    if (negated) return false
    yes = true
  }
  return yes
}
