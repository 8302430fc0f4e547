/** Argon2id of Node. Whoever calls it says how many run at once: each takes memory, and threads that do files, too. */
import { type Argon2Parameters, argon2 } from 'node:crypto'
import { promisify } from 'node:util'

export const argon2id = promisify(
  (parameters: Argon2Parameters, done: (error: Error | null, hash: Buffer) => void): void =>
    argon2('argon2id', parameters, done),
)

/** The same letters give the same bytes, whatever keyboard made them. */
export const passphraseBytes = (text: string): Buffer => Buffer.from(text.normalize('NFC'), 'utf8')
