/** PostgreSQL's errors as ours, and what may be tried again. */
import { HoldfastError } from '../../model/errors.ts'
import type { Address } from './address.ts'
import { fencedCode } from './fence.ts'

/**
 * `lost`: the connection is of no use any more. `again`: somebody else's transaction came between; nothing was done.
 * `taken`: a row with that key is there.
 */
export type Trouble = 'lost' | 'again' | 'taken' | 'other'

const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''

const networkCodes = /^(ECONN|EPIPE|ETIMEDOUT|EHOST|ENET|ENOTFOUND|EAI_AGAIN|ENOENT|EACCES)/
/** The client library's own, which have no code. */
const lostWords =
  /^Connection terminated|not queryable|^timeout expired|^Query read timeout|has already been destroyed|TLS connection|^Client was closed/

/** Read-only (25006): this server became a standby; the next connection may reach the new primary. */
export function troubleOf(error: unknown): Trouble {
  const code = codeOf(error)
  if (code === '40001' || code === '40P01') return 'again'
  if (code === '23505') return 'taken'
  if (/^(08|57P)/.test(code) || code === '25006' || networkCodes.test(code)) return 'lost'
  return error instanceof Error && code === '' && lostWords.test(error.message) ? 'lost' : 'other'
}

/** Errors of transactions that certainly left nothing behind. */
const withoutEffect = new WeakSet<HoldfastError>()
export const leftNothing = (error: unknown): boolean =>
  error instanceof HoldfastError && withoutEffect.has(error)

/** `committing`: whether it took effect is not known when the connection was lost. */
export function translated(error: unknown, address: Address, committing: boolean): unknown {
  if (error instanceof HoldfastError) return error
  const told = meaning(error, address)
  if (!told) return error
  const trouble = troubleOf(error)
  if (trouble === 'again' || trouble === 'taken' || (trouble === 'lost' && !committing))
    withoutEffect.add(told)
  return told
}

function meaning(error: unknown, { words }: Address): HoldfastError | undefined {
  const code = codeOf(error)
  const said = error instanceof Error ? error.message : String(error)
  const as = (ours: HoldfastError['code'], what: string, hint?: string) =>
    new HoldfastError(ours, `The catalog's ${words} ${what}: ${said}.`, {
      cause: error,
      ...(hint === undefined ? {} : { hint }),
    })
  if (code === '25006') {
    return as(
      'catalog.unreachable',
      'is read-only',
      'It is a standby, or was made read-only: HOLDFAST_CATALOG_URL must lead to the primary.',
    )
  }
  if (
    /^(40001|40P01|55P03|57014|53300|53400|53200)$/.test(code) ||
    /^timeout exceeded when trying/.test(said)
  ) {
    return as('catalog.overloaded', 'does not keep up')
  }
  if (code === '53100' || /No space left on device/.test(said)) return as('catalog.full', 'is full')
  if (/^(28|3D000|42501)/.test(code)) return as('catalog.denied', 'refuses us')
  if (/server does not support SSL/.test(said)) {
    return as('catalog.denied', 'has no TLS', 'Turn TLS on there, or say sslmode=disable.')
  }
  if (code === fencedCode) return as('catalog.moved', 'was moved elsewhere')
  if (code === '23505') return as('request.exists', 'has that row already')
  return troubleOf(error) === 'lost' ? as('catalog.unreachable', 'does not answer') : undefined
}
