/** Users with passwords and tokens of their own, and what they say to a restore that replaces something. */
import { randomBytes } from 'node:crypto'
import type { OperationView, PlanView, Problem } from '../../model/views.ts'
import { eventually } from '../api/support.ts'

/** A whole stack, or an API with a worker in this process. */
interface Talks {
  call<T>(
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<{ status: number; body: T }>
  expectOk<T>(method: string, path: string, body?: unknown): Promise<T>
  operation(id: string): Promise<OperationView>
}

export interface Person {
  name: string
  password: string
  token: string
  call<T>(method: string, path: string, body?: unknown): Promise<{ status: number; body: T }>
}

export async function addPerson(stack: Talks, name: string, role: string): Promise<Person> {
  const password = `canary-${name}-${randomBytes(9).toString('hex')}`
  await stack.expectOk('POST', '/v1/users', { name, role, password })
  const { token } = await stack.expectOk<{ token: string }>('POST', '/v1/tokens', {
    name: `of-${name}`,
    user: name,
    role,
  })
  return {
    name,
    password,
    token,
    call: (method, path, body) => stack.call(method, path, body, { authorization: `Bearer ${token}` }),
  }
}

/** Asks for a restore over what is there. */
export async function askFor(
  person: Person,
  body: Record<string, unknown>,
): Promise<{ status: number; body: { operation: OperationView } & Problem }> {
  return await person.call('POST', '/v1/restores', {
    overwriteExisting: true,
    reason: 'yesterday was better',
    ...body,
  })
}

export const planOf = async (stack: Talks, id: string): Promise<PlanView> =>
  await stack.expectOk<PlanView>('GET', `/v1/operations/${id}/plan`)

/** Waits until it asks for consent; fails at once when it ends instead. */
export const awaiting = (stack: Talks, id: string): Promise<OperationView> =>
  eventually(`${id} awaits its approval`, async () => {
    const view = await stack.operation(id)
    if (view.endedAt !== null) return view
    return view.state === 'awaiting-approval' ? view : undefined
  })

/** Says yes as one should. */
export async function approve(
  stack: Talks,
  person: Person,
  id: string,
  more: Record<string, unknown> = {},
): Promise<{ status: number; body: OperationView & Problem }> {
  const [plan, view] = await Promise.all([planOf(stack, id), stack.operation(id)])
  return await person.call('POST', `/v1/operations/${id}/approve`, {
    password: person.password,
    targetName: view.target,
    reason: 'looked at it',
    planDigest: plan.digest,
    ...more,
  })
}
