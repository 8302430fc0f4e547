/** Names that engines make. */
import { HoldfastError } from '../model/errors.ts'

/** A safe file name of what a person called their database: letters, digits, `.`, `_`, `-`; at most 80 characters. */
export function safeFileName(name: string): string {
  const safe = name
    .replace(/[^A-Za-z0-9._-]+/g, '_')
    .replace(/^[.-]+/, '')
    .slice(0, 80)
  return safe === '' || safe === '_' ? 'database' : safe
}

/** Tokens go into names of temporary databases and files: refuse one that could mean something there. */
export function checkedToken(token: string): string {
  if (!/^[A-Za-z0-9]{6,40}$/.test(token)) {
    throw new HoldfastError(
      'internal',
      `A restore was planned with the token "${token}"; 6 to 40 letters and digits are needed.`,
    )
  }
  return token
}
