/** Passwords as Argon2id, in the form that its reference implementation writes: `$argon2id$v=19$m=…,t=…,p=…$salt$hash`. */
import { randomBytes, timingSafeEqual } from 'node:crypto'
import { HoldfastError } from '../model/errors.ts'
import { argon2id, passphraseBytes } from '../storage/passphrase.ts'

/** In KiB; twice the time that OWASP asks for at least with this much memory. */
const cost = { memory: 47_104, passes: 2, parallelism: 1 }
const hashBytes = 32

/** So many hashes are made at once, and so many more may wait: each takes memory, and the threads that do files, too. */
const atOnce = 2
const mayWait = 20
let running = 0
const waiting: (() => void)[] = []

/** For whatever derives from a password or a passphrase. */
export async function inTurn<T>(work: () => Promise<T>): Promise<T> {
  if (running >= atOnce) {
    if (waiting.length >= mayWait) {
      throw new HoldfastError(
        'request.rate-limited',
        'Too many passwords are being checked at this moment.',
        {
          context: { retryAfterSeconds: 5 },
        },
      )
    }
    // Whoever ends hands its place on.
    await new Promise<void>(resolve => waiting.push(resolve))
  } else running += 1
  try {
    return await work()
  } finally {
    const next = waiting.shift()
    if (next) next()
    else running -= 1
  }
}

export async function hashPassword(password: string): Promise<string> {
  const nonce = randomBytes(16)
  const hash = await inTurn(() =>
    argon2id({ message: passphraseBytes(password), nonce, tagLength: hashBytes, ...cost }),
  )
  const { memory, passes, parallelism } = cost
  return `$argon2id$v=19$m=${memory},t=${passes},p=${parallelism}$${base64(nonce)}$${base64(hash)}`
}

/** Takes as long whether or not there is a hash to compare with. */
export async function verifyPassword(password: string, stored: string | null): Promise<boolean> {
  const known = stored === null ? undefined : parse(stored)
  const { nonce, hash, ...parameters } = known ?? {
    ...cost,
    nonce: nobodysNonce,
    hash: Buffer.alloc(hashBytes),
  }
  const found = await inTurn(() =>
    argon2id({ message: passphraseBytes(password), nonce, tagLength: hash.length, ...parameters }),
  )
  return timingSafeEqual(found, hash) && known !== undefined
}

const nobodysNonce = randomBytes(16)

function parse(stored: string) {
  const match = /^\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$([\w+/]+)\$([\w+/]+)$/.exec(stored)
  if (!match) throw new Error('a stored password hash is not of Argon2id')
  const [, memory, passes, parallelism, nonce = '', hash = ''] = match
  return {
    memory: Number(memory),
    passes: Number(passes),
    parallelism: Number(parallelism),
    nonce: Buffer.from(nonce, 'base64'),
    hash: Buffer.from(hash, 'base64'),
  }
}

const base64 = (bytes: Buffer): string => bytes.toString('base64').replace(/=+$/, '')
