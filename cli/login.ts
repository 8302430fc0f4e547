/** From a password to a token: a session for two requests, as a browser has it. */
import { sessionMade, type TokenMade, tokenMade } from '../model/access.ts'
import { HoldfastError } from '../model/errors.ts'
import { exchange } from './client.ts'

/** Throws `request.password`, `request.rate-limited`. The session is over when this returns. */
export async function logIn(
  url: string,
  who: { user: string; password: string },
  token: { name: string; expiresAt: string },
): Promise<TokenMade> {
  const base = url.replace(/\/+$/, '')
  const begun = await exchange(base, 'POST', '/v1/sessions', {}, who)
  const { csrfToken } = understood(sessionMade.safeParse(begun.value).data, base)
  const cookie = begun.headers
    .getSetCookie()
    .map(one => one.split(';')[0])
    .join('; ')
  const headers = { cookie, 'x-csrf-token': csrfToken }
  try {
    const made = await exchange(base, 'POST', '/v1/tokens', headers, token)
    return understood(tokenMade.safeParse(made.value).data, base)
  } finally {
    // It ends by itself, too: that it could not be ended now is no reason to fail.
    await exchange(base, 'DELETE', '/v1/sessions/current', headers, undefined).catch(() => {})
  }
}

function understood<T>(answer: T | undefined, base: string): T {
  if (answer !== undefined) return answer
  throw new HoldfastError('internal', `The API at ${base} answered a login with another shape.`, {
    hint: 'CLI and API are probably of different versions.',
  })
}
