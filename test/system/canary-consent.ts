/** Where a person's password, token and session pass: a user is made, logs in, asks for a restore, mistypes, approves it. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { SessionMade, TokenMade } from '../../model/access.ts'
import type { Problem } from '../../model/views.ts'
import { start } from '../cli/run.ts'
import { awaiting, planOf } from '../support/people.ts'
import type { Stack } from './stack.ts'

export type Answer = { operation?: { id: string } } & Problem
/** Asks, and keeps the answer for the search. */
export type Ask = (
  method: string,
  path: string,
  body?: unknown,
  headers?: Record<string, string>,
) => Promise<Answer>

// No valid name of anything.
const password = `Canary ${randomBytes(9).toString('hex')}-approver`
/** What somebody typed who mistook the one for the other. */
const mistyped = `Canary ${randomBytes(9).toString('hex')}-mistyped`

/** Of a worker: who is told of break-glass keeps everything that it gets. */
export async function notifier(directory: string): Promise<Record<string, string>> {
  const program = join(directory, 'notify')
  await writeFile(program, `#!/bin/sh\nenv >> ${program}.env\ncat >> ${program}.told\n`)
  await chmod(program, 0o755)
  return { HOLDFAST_NOTIFY_COMMAND: program }
}

/** Replaces `back` of connection `pg`; what must be nowhere is added to `canaries`. Returns the operation. */
export async function consent(stack: Stack, ask: Ask, canaries: string[]): Promise<Answer> {
  canaries.push(password, mistyped)
  await ask('POST', '/v1/users', { name: 'anna', role: 'approver', password })
  await ask('POST', '/v1/users', { name: 'anna', role: 'approver', password })
  await ask('POST', '/v1/users', { name: password, role: 'approver' })
  const { token, cookie, csrfToken } = await credentials(stack)
  canaries.push(token, cookie.split('=')[1] ?? '', csrfToken)
  await ask('POST', '/v1/sessions', { user: 'anna', password: mistyped })
  const annas = { authorization: `Bearer ${token}` }
  await ask('POST', '/v1/tokens', { name: token, role: 'viewer' }, annas)
  await ask('GET', '/v1/me', undefined, annas)
  await ask('POST', '/v1/connections/pg/policy', { twoPerson: true })
  const target = { connection: 'pg', database: 'back' }
  const asked = await ask(
    'POST',
    '/v1/restores',
    { backup: 'pg:latest', target, overwriteExisting: true, reason: 'canary' },
    annas,
  )
  const id = asked.operation?.id ?? ''
  assert.equal((await awaiting(stack, id)).state, 'awaiting-approval')
  const { digest } = await planOf(stack, id)
  const yes = { password, targetName: 'back', reason: 'looked', planDigest: digest }
  for (const [body, code] of [
    [{ ...yes, password: mistyped }, 'approval.password'],
    // In the wrong field, as people do.
    [{ ...yes, targetName: password, breakGlass: true }, 'approval.name'],
    [{ ...yes, planDigest: password }, 'request.invalid'],
    [yes, 'approval.second-person'],
  ] as const) {
    assert.equal((await ask('POST', `/v1/operations/${id}/approve`, body, annas)).code, code)
  }
  // From a browser, too.
  const browsed = await fetch(`${stack.apiUrl}/v1/operations/${id}/approve`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', cookie, 'x-csrf-token': csrfToken, origin: stack.apiUrl },
    body: JSON.stringify({ ...yes, password: mistyped }),
  })
  const refused = await browsed.text()
  assert.match(refused, /approval\.password/)
  expectNone(canaries, refused)
  await breakGlass(stack, id, digest, token, canaries)
  const told = await readFile(join(stack.directory, 'notify.told'), 'utf8')
  assert.match(told, /approval\.break-glass/)
  return asked
}

/** The answers that show a token and a session: nothing else may. */
async function credentials(stack: Stack) {
  const input = { name: 'annas', user: 'anna', role: 'approver' }
  const { token } = await stack.expectOk<TokenMade>('POST', '/v1/tokens', input)
  const login = await fetch(`${stack.apiUrl}/v1/sessions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ user: 'anna', password }),
  })
  assert.equal(login.status, 201)
  const cookie = login.headers.getSetCookie()[0]?.split(';')[0] ?? ''
  const { csrfToken } = (await login.json()) as SessionMade
  return { token, cookie, csrfToken }
}

/** On the command line, until the restore has ended. */
async function breakGlass(
  stack: Stack,
  id: string,
  digest: string,
  token: string,
  canaries: readonly string[],
): Promise<void> {
  // Elsewhere: what is below the stack's directory is searched.
  const place = await mkdtemp(join(tmpdir(), 'holdfast-canary-'))
  try {
    const file = join(place, 'password')
    await writeFile(file, password, { mode: 0o600 })
    const yes = ['approve', id, '--target-name', 'back', '--reason', 'alone', '--plan-digest', digest]
    const { child, ended } = start([...yes, '--secret-file', file, '--break-glass'], {
      env: { ...stack.env, HOLDFAST_URL: stack.apiUrl, HOLDFAST_TOKEN: token },
    })
    expectNone(canaries, readFileSync(`/proc/${child.pid}/cmdline`, 'utf8'))
    const { code, stdout, stderr } = await ended
    assert.equal(code, 0, stderr)
    expectNone(canaries, stdout + stderr)
  } finally {
    await rm(place, { recursive: true })
  }
}

const expectNone = (canaries: readonly string[], text: string) => {
  for (const secret of canaries) assert.ok(!text.includes(secret), text)
}
