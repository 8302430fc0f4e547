/**
 * The one place where data becomes shell text. Everything between single quotes is literal in every POSIX shell,
 * whatever its bytes; only the single quote itself must leave and come back.
 */
import { HoldfastError } from '../model/errors.ts'

/** One shell word that expands to exactly `word`. Refuses what no argument list can carry. */
export function quote(word: string): string {
  assertCarriable(word)
  return `'${word.replaceAll("'", "'\\''")}'`
}

/** NUL ends a C string; a lone surrogate would be written as another character. */
export function assertCarriable(word: string, what = 'an argument'): void {
  if (word.includes('\0')) {
    throw new HoldfastError('request.invalid', `Preparing a command: ${what} holds a NUL character.`)
  }
  if (!word.isWellFormed()) {
    throw new HoldfastError('request.invalid', `Preparing a command: ${what} is not valid Unicode.`)
  }
}

/** For `printf %b`: every byte as `\0ooo`, so that the result is one line of plain characters. */
export function octal(value: string): string {
  assertCarriable(value, 'a secret')
  return Array.from(Buffer.from(value, 'utf8'), byte => `\\0${byte.toString(8).padStart(3, '0')}`).join('')
}
