/** One POST of a small JSON document to a service that has no library here, and what its answer means. */
import { type ErrorCode, HoldfastError } from '../../model/errors.ts'

const answerMs = 8000
const tries = 3
const againMs = 300

export interface Answer {
  status: number
  body: Record<string, unknown>
}

/** `meaning`: of a refusal; undefined where its status says enough. Throws `key.kms-…` and what `meaning` says. */
export async function post(
  what: string,
  url: string,
  token: () => Promise<string>,
  document: object,
  meaning: (answer: Answer) => ErrorCode | undefined,
): Promise<Record<string, unknown>> {
  for (let left = tries - 1; ; left -= 1) {
    const bearer = await token().catch(error => {
      const why = error instanceof Error ? error.message.slice(0, 200) : 'unknown'
      throw new HoldfastError('key.kms-denied', `${what}: there is no token for it: ${why}.`)
    })
    const answer = await ask(url, bearer, document)
    if (answer !== undefined && answer.status < 300) return answer.body
    const passing = answer === undefined || answer.status === 429 || answer.status >= 500
    if (passing && left > 0) {
      await new Promise(resolve => setTimeout(resolve, againMs))
      continue
    }
    const code = answer && !passing ? (meaning(answer) ?? byStatus(answer.status)) : 'key.kms-unreachable'
    throw new HoldfastError(code, `${what}: ${answer === undefined ? 'no answer' : saying(answer)}.`)
  }
}

const byStatus = (status: number): ErrorCode =>
  status === 401 || status === 403 ? 'key.kms-denied' : 'key.kms-unusable'

const saying = ({ status, body }: Answer): string => {
  const { error } = body as { error?: { message?: unknown } }
  const text = typeof error?.message === 'string' ? `: ${error.message.slice(0, 300)}` : ''
  return `it answered ${status}${text}`
}

async function ask(url: string, token: string, document: object): Promise<Answer | undefined> {
  const answer = await fetch(url, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify(document),
    redirect: 'error',
    signal: AbortSignal.timeout(answerMs),
  }).catch(() => undefined)
  if (answer === undefined) return undefined
  const body: unknown = await answer.json().catch(() => ({}))
  return { status: answer.status, body: body !== null && typeof body === 'object' ? { ...body } : {} }
}

/** The bytes of a field; throws where there are none. */
export function bytesOf(what: string, value: unknown, encoding: 'base64' | 'base64url'): Uint8Array {
  if (typeof value === 'string' && value !== '') return Buffer.from(value, encoding)
  throw new HoldfastError('key.kms-unreachable', `${what}: the answer holds nothing.`)
}
