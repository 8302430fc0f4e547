/**
 * Google Tink's streaming AEAD `AES256_GCM_HKDF_1MB`, as functions over buffers.
 * Layout: header (1 byte length = 40, 32 bytes salt, 7 bytes nonce prefix), then ciphertext segments of 1 MiB including
 * their 16-byte tag, the first shorter by the header, the last as short as it is. Segment key = HKDF-SHA256(data key, salt,
 * info = associated data); segment nonce = prefix, 4-byte big-endian index, 1 on the last segment and 0 otherwise.
 * The same secrets and plaintext always give the same bytes; the same secrets must never seal other bytes.
 * Buffers given to `update` are copied; those that come out are the caller's.
 */
import { createCipheriv, createDecipheriv, hkdfSync } from 'node:crypto'
import { HoldfastError } from '../model/errors.ts'

export const segmentBytes = 1 << 20
const tagBytes = 16
const saltBytes = 32
const prefixBytes = 7
const sealHeaderBytes = 1 + saltBytes + prefixBytes

export interface SealSecrets {
  /** 32 bytes; one per artifact. */
  dataKey: Uint8Array
  /** 32 bytes. */
  salt: Uint8Array
  /** 7 bytes. */
  noncePrefix: Uint8Array
  /** See `associatedDataFor` in model/manifest.ts; at most 1,024 bytes. */
  associatedData: string
}

/** Length of the sealed object for so many bytes of plaintext. */
export function sealedBytes(plainBytes: number): number {
  const first = segmentBytes - sealHeaderBytes - tagBytes
  const segments = plainBytes <= first ? 1 : 1 + Math.ceil((plainBytes - first) / (segmentBytes - tagBytes))
  return sealHeaderBytes + plainBytes + segments * tagBytes
}

export interface Sealer {
  /** The first bytes of the object. */
  readonly header: Buffer
  /** Ciphertext that became complete, in order. Never the last segment: that one is known only by `final`. */
  update(chunk: Buffer): Buffer[]
  final(): Buffer[]
}

export function createSealer(secrets: SealSecrets): Sealer {
  const key = segmentKey(secrets.dataKey, secrets.salt, secrets.associatedData)
  const header = Buffer.concat([Buffer.of(sealHeaderBytes), secrets.salt, secrets.noncePrefix])
  if (header.length !== sealHeaderBytes) throw new RangeError('salt must be 32 bytes and noncePrefix 7 bytes')
  const seal = (segment: Buffer, index: number, last: boolean): Buffer[] => {
    const cipher = createCipheriv('aes-256-gcm', key, segmentNonce(secrets.noncePrefix, index, last))
    return [cipher.update(segment), cipher.final(), cipher.getAuthTag()]
  }
  const plainSegment = segmentBytes - tagBytes
  const segments = inSegments(plainSegment - sealHeaderBytes, plainSegment, seal)
  return { header, update: segments.push, final: segments.end }
}

/** Where a segment begins in the object. */
const placeOf = (segment: number) => ({
  context: { segment, storedOffset: segment === 0 ? sealHeaderBytes : segment * segmentBytes },
})

export interface Opener {
  /** Plaintext of the segments that are complete and authenticated, in order. */
  update(chunk: Buffer): Buffer[]
  /** Authenticates the last segment as the last; only after it returned is the plaintext known to be whole. */
  final(): Buffer[]
}

/**
 * Throws `artifact.truncated` when the end is missing and `artifact.corrupted` for anything else that is not what was
 * sealed with this key and associated data; `what` names the artifact in the message. After a throw it must not be used.
 */
export function createOpener(dataKey: Uint8Array, associatedData: string, what: string): Opener {
  let header: Buffer = Buffer.alloc(0)
  let key: Buffer | undefined

  const decipher = (segment: Buffer, index: number, last: boolean): Buffer[] | undefined => {
    const body = segment.subarray(0, segment.length - tagBytes)
    const nonce = segmentNonce(header.subarray(1 + saltBytes), index, last)
    const gcm = createDecipheriv('aes-256-gcm', key!, nonce).setAuthTag(segment.subarray(body.length))
    const opened = gcm.update(body)
    try {
      gcm.final()
    } catch {
      return undefined
    }
    return [opened]
  }
  const open = (segment: Buffer, index: number, last: boolean): Buffer[] => {
    if (segment.length < tagBytes) {
      throw new HoldfastError(
        'artifact.truncated',
        `Opening ${what}: it ends inside the tag of segment ${index}.`,
        placeOf(index),
      )
    }
    const opened = decipher(segment, index, last)
    if (opened !== undefined) return opened
    if (decipher(segment, index, !last) === undefined) {
      throw new HoldfastError(
        'artifact.corrupted',
        `Opening ${what}: segment ${index} is not authentic: its bytes were changed or moved, or the data key is another artifact's.`,
        placeOf(index),
      )
    }
    throw last
      ? new HoldfastError(
          'artifact.truncated',
          `Opening ${what}: it ends after segment ${index}, which is not the last one.`,
          placeOf(index),
        )
      : new HoldfastError(
          'artifact.corrupted',
          `Opening ${what}: bytes follow segment ${index}, which is the last one.`,
          placeOf(index),
        )
  }
  const segments = inSegments(segmentBytes - sealHeaderBytes, segmentBytes, open)

  return {
    update(chunk) {
      let rest = chunk
      if (key === undefined) {
        const missing = sealHeaderBytes - header.length
        header = Buffer.concat([header, rest.subarray(0, missing)])
        rest = rest.subarray(missing)
        if (header.length < sealHeaderBytes) return []
        if (header[0] !== sealHeaderBytes) {
          throw new HoldfastError('artifact.corrupted', `Opening ${what}: it does not begin with its header.`)
        }
        key = segmentKey(dataKey, header.subarray(1, 1 + saltBytes), associatedData)
      }
      return segments.push(rest)
    },
    final() {
      if (key === undefined) {
        throw new HoldfastError('artifact.truncated', `Opening ${what}: it ends inside its header.`)
      }
      return segments.end()
    },
  }
}

/**
 * Cuts a stream into segments. A full segment is held until another byte or the end arrives, because only then it is known
 * whether it is the last: the nonce says so. `handle` may use a segment's bytes until it returns.
 */
function inSegments(
  firstBytes: number,
  bytes: number,
  handle: (segment: Buffer, index: number, last: boolean) => Buffer[],
) {
  const segment = Buffer.allocUnsafeSlow(bytes)
  let held = 0
  let index = 0
  return {
    push(chunk: Buffer): Buffer[] {
      const out: Buffer[] = []
      let rest = chunk
      while (rest.length > 0) {
        const size = index === 0 ? firstBytes : bytes
        if (held === size) {
          out.push(...handle(segment.subarray(0, held), index, false))
          held = 0
          index += 1
          continue
        }
        const copied = rest.copy(segment, held, 0, size - held)
        held += copied
        rest = rest.subarray(copied)
      }
      return out
    },
    end: (): Buffer[] => handle(segment.subarray(0, held), index, true),
  }
}

function segmentKey(dataKey: Uint8Array, salt: Uint8Array, associatedData: string): Buffer {
  if (dataKey.length !== 32) throw new RangeError('a data key has 32 bytes')
  return Buffer.from(hkdfSync('sha256', dataKey, salt, Buffer.from(associatedData, 'utf8'), 32))
}

function segmentNonce(prefix: Uint8Array, index: number, last: boolean): Buffer {
  const nonce = Buffer.alloc(12)
  nonce.set(prefix, 0)
  nonce.writeUInt32BE(index, prefixBytes)
  nonce[11] = last ? 1 : 0
  return nonce
}
