/** Errors as `application/problem+json`. What is not in the table is logged whole and answered without a word of it. */
import type { z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { HTTPException } from 'hono/http-exception'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import { errorTable, HoldfastError, hasCode } from '../model/errors.ts'
import type { Problem } from '../model/views.ts'
import type { Log } from './log.ts'

export type Field = NonNullable<Problem['errors']>[number]

/** `request.invalid` that names the fields. */
export class InvalidRequest extends HoldfastError {
  readonly fields: Field[]
  constructor(fields: Field[], detail = 'The request was not taken: see the named fields.') {
    super('request.invalid', detail)
    this.fields = fields
  }
}

/** Runs `read`; what it says of the request is said of this field, unless it names one itself. */
export function inField<T>(field: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (!hasCode(error, 'request.invalid')) throw error
    const [{ path, message }] = fieldsIn(error) as [Field]
    throw new InvalidRequest([{ path: path || field, message }], `${error.message} ${error.hint}`)
  }
}

/** A refusal before the request is looked at, whose status HTTP itself fixes. */
export class HttpRefusal extends HoldfastError {
  readonly status: ContentfulStatusCode
  readonly headers: Record<string, string>
  constructor(status: ContentfulStatusCode, detail: string, headers: Record<string, string> = {}) {
    super(status === 404 ? 'request.not-found' : 'request.invalid', detail)
    this.status = status
    this.headers = headers
  }
}

/** One line per field: the first thing that is wrong with it. */
export function fieldsOf(error: z.core.$ZodError): Field[] {
  const fields = error.issues.flatMap(issue => {
    const path = issue.path.map(String)
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map(key => ({ path: shown([...path, key]), message: 'there is no such field' }))
    }
    if (issue.code === 'invalid_key') {
      const reasons = issue.issues.map(inner => inner.message).join(', ')
      return [{ path: shown(path), message: `not a valid name: ${reasons}` }]
    }
    return [{ path: shown(path), message: issue.message }]
  })
  return fields.filter(({ path }, index) => fields.findIndex(field => field.path === path) === index)
}

/** Names come from the request: cut, and without control characters. */
const shown = (path: string[]): string =>
  path
    .join('.')
    .replace(/\p{Cc}/gu, '?')
    .slice(0, 200)

export function toProblem(error: HoldfastError): Problem {
  const row = errorTable[error.code]
  const { operation, kind, startedAt } = error.context
  const holder =
    error.code === 'operation.conflict' && typeof operation === 'string'
      ? { holder: { operation, kind: String(kind), startedAt: String(startedAt) } }
      : {}
  const status = error instanceof HttpRefusal ? error.status : row.status
  return {
    type: `urn:holdfast:error:${error.code}`,
    title: row.title,
    status,
    code: error.code,
    detail: error.message,
    hint: error.hint,
    ...(error.code === 'request.invalid' && !(error instanceof HttpRefusal)
      ? { errors: fieldsIn(error) }
      : {}),
    ...holder,
  }
}

/** Engines and destinations name the field at the beginning of what they say: `url: …`. */
function fieldsIn(error: HoldfastError): Field[] {
  if (error instanceof InvalidRequest) return error.fields
  if (typeof error.context.field === 'string') {
    return [{ path: error.context.field, message: error.message }]
  }
  const match = /^([a-zA-Z][a-zA-Z0-9.]{0,60}): (.+)$/s.exec(error.message)
  return [{ path: match?.[1] ?? '', message: match?.[2] ?? error.message }]
}

/** Whatever was thrown, as one of the table. */
export function asHoldfastError(error: unknown): HoldfastError | undefined {
  if (error instanceof HoldfastError) return error
  if (error instanceof HTTPException) {
    if (error.status === 413) return new HoldfastError('request.too-large', 'The body is larger than 1 MiB.')
    return new HttpRefusal(
      error.status as ContentfulStatusCode,
      error.message || 'The request cannot be read.',
    )
  }
  // The client went away, or was too slow and was cut off.
  if (
    error instanceof Error &&
    error.message === 'aborted' &&
    'code' in error &&
    error.code === 'ECONNRESET'
  ) {
    return new HttpRefusal(408, 'The request ended before it was whole.')
  }
  return undefined
}

export function answerError(error: unknown, context: Context, log: Log): Response {
  const known = asHoldfastError(error)
  if (!known) {
    log.error('unexpected error', {
      method: context.req.method,
      path: context.req.path,
      error: error instanceof Error ? (error.stack ?? error.message) : String(error),
    })
  }
  const told =
    known ?? new HoldfastError('internal', 'Something unexpected happened; the log of the API says more.')
  const problem = {
    ...toProblem(told),
    // Workers get the facts too, as if the error had been thrown beside them.
    ...(context.req.path.startsWith('/internal/') ? { context: told.context } : {}),
  }
  const headers = {
    'content-type': 'application/problem+json',
    ...(known instanceof HttpRefusal ? known.headers : {}),
    // What was not read of the body would be taken for the next request.
    ...(told.code === 'request.too-large' || isUnread(context) ? { connection: 'close' } : {}),
    ...(told.code === 'request.rate-limited'
      ? { 'retry-after': String(told.context.retryAfterSeconds ?? 60) }
      : {}),
    ...(told.code === 'request.unauthenticated' ? { 'www-authenticate': 'Bearer realm="holdfast"' } : {}),
  }
  return context.body(JSON.stringify(problem), problem.status as ContentfulStatusCode, headers)
}

const isUnread = ({ req }: Context): boolean => req.raw.body !== null && !req.raw.bodyUsed
