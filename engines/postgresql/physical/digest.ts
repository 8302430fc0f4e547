/** The checksums that `backup_manifest` may have of a file. */
import { createHash } from 'node:crypto'
import { crc32c } from '@node-rs/crc32'

const algorithms = {
  CRC32C: 'crc32c',
  SHA224: 'sha224',
  SHA256: 'sha256',
  SHA384: 'sha384',
  SHA512: 'sha512',
} as const
export type Algorithm = (typeof algorithms)[keyof typeof algorithms]

export const algorithmOf = (name: string): Algorithm | undefined =>
  Object.hasOwn(algorithms, name) ? algorithms[name as keyof typeof algorithms] : undefined

/** Of a tar whose manifest comes last it is not known yet which one will be asked for. */
export const usual: readonly Algorithm[] = ['crc32c', 'sha256']

export interface Digesting {
  update(chunk: Buffer): void
  /** By algorithm, as `backup_manifest` writes them. */
  ended(): ReadonlyMap<Algorithm, string>
}

export function digesting(wanted: readonly Algorithm[]): Digesting {
  const running = wanted.map(algorithm => ({
    algorithm,
    ...(algorithm === 'crc32c' ? newCrc() : newHash(algorithm)),
  }))
  return {
    update(chunk) {
      for (const one of running) one.update(chunk)
    },
    ended: () => new Map(running.map(({ algorithm, value }) => [algorithm, value()])),
  }
}

function newHash(algorithm: string) {
  const hash = createHash(algorithm)
  return { update: (chunk: Buffer) => void hash.update(chunk), value: () => hash.digest('hex') }
}

function newCrc() {
  let crc = 0
  return {
    update(chunk: Buffer) {
      crc = crc32c(chunk, crc)
    },
    // Its four bytes as they lie in the server's memory: nearly always the lowest first.
    value() {
      const bytes = Buffer.alloc(4)
      bytes.writeUInt32LE(crc >>> 0)
      return bytes.toString('hex')
    },
  }
}
