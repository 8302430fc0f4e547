/**
 * Consent to what destroys: a "yes" with everything that makes it one, a "no". Both are rows first; the
 * workflow is told their id, and the reconciler tells it again when we die in between.
 */
import { createRoute, type OpenAPIHono } from '@hono/zod-openapi'
import { type Decision, decide, findApproval, waitingApprovals } from '../../catalog/approvals.ts'
import { readConnection } from '../../catalog/connections.ts'
import { readOperation } from '../../catalog/operations.ts'
import { checkPassword } from '../../catalog/users.ts'
import { HoldfastError } from '../../model/errors.ts'
import { approveInput, rejectInput } from '../../model/inputs.ts'
import type { Actor, ApprovalRecord, OperationRecord } from '../../model/records.ts'
import { approvalView, operationView, page } from '../../model/views.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { within } from '../reach.ts'
import { requires } from '../roles.ts'
import { approvalViewOf, operationViewOf } from '../views.ts'
import { body, json, noQuery, operationParam, problems } from './answers.ts'

const list = createRoute({
  method: 'get',
  path: '/v1/approvals',
  tags: ['approvals'],
  ...requires('viewer', 'checked'),
  summary: 'What waits for an approval, the oldest first',
  request: { query: noQuery },
  responses: { 200: json(page(approvalView), 'All of them'), ...problems },
})
const approve = createRoute({
  method: 'post',
  path: '/v1/operations/{id}/approve',
  tags: ['approvals'],
  ...requires('approver', 'operation'),
  summary: 'Say yes to the plan that was looked at',
  description:
    'By a user with the role, with their password again, a reason, the exact name of the target and the digest of the plan.',
  request: { params: operationParam, body: body(approveInput) },
  responses: { 202: json(operationView, 'Approved; it goes on'), ...problems },
})
const reject = createRoute({
  method: 'post',
  path: '/v1/operations/{id}/reject',
  tags: ['approvals'],
  ...requires('approver', 'operation'),
  summary: 'Say no',
  request: { params: operationParam, body: body(rejectInput) },
  responses: { 202: json(operationView, 'Rejected; it ends'), ...problems },
})

export function approvalRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  const { catalog, temporal } = context
  app.openapi(list, async c => {
    const waiting = await waitingApprovals(catalog)
    const items = await Promise.all(
      waiting.map(async one => approvalViewOf(one, await readOperation(catalog, one.operationId))),
    )
    const actor = c.get('actor')
    return c.json({ items: items.filter(one => within(actor, one.connection)), nextCursor: null }, 200)
  })
  app.openapi(approve, async c => {
    const { id } = c.req.valid('param')
    const input = c.req.valid('json')
    const actor = c.get('actor')
    const operation = await readOperation(catalog, id)
    const breakGlass = input.breakGlass ?? false
    c.set('auditDetail', { breakGlass })
    const user = await assertPassword(context, actor, input.password, c.get('address'))
    const waives = await assertSecondPerson(context, operation, user, breakGlass)
    await settle(context, operation, {
      decision: 'approved',
      by: user,
      reason: input.reason,
      breakGlass: waives,
      seen: { planDigest: input.planDigest, targetName: input.targetName },
    })
    if (waives) {
      context.log.warn('BREAK GLASS: a restore over existing data was approved without a second person', {
        operation: id,
        connection: operation.connection ?? '',
        target: operation.targetDatabase ?? '',
        by: user,
        reason: input.reason,
      })
    }
    return c.json(operationViewOf(await readOperation(catalog, id), temporal), 202)
  })
  app.openapi(reject, async c => {
    const { id } = c.req.valid('param')
    const operation = await readOperation(catalog, id)
    await settle(context, operation, {
      decision: 'rejected',
      by: c.get('actor').name,
      reason: c.req.valid('json').reason,
      breakGlass: false,
      seen: null,
    })
    return c.json(operationViewOf(await readOperation(catalog, id), temporal), 202)
  })
}

/** The user behind the request, who has just typed their password again. */
async function assertPassword(
  { catalog }: ApiContext,
  actor: Actor,
  password: string,
  address: string,
): Promise<string> {
  if (actor.user === null) {
    throw new HoldfastError(
      'approval.password',
      `${actor.name} is nobody's token: an approval needs a user with a password.`,
    )
  }
  if (await checkPassword(catalog, actor.user, password, address)) return actor.user
  throw new HoldfastError('approval.password', `The password is not that of ${actor.user}.`)
}

/** Answers whether a second person, who is demanded, was waived. */
async function assertSecondPerson(
  { catalog }: ApiContext,
  operation: OperationRecord,
  user: string,
  breakGlass: boolean,
): Promise<boolean> {
  if (operation.connection === null) return false
  const { twoPerson } = await readConnection(catalog, operation.connection)
  const approval = await findApproval(catalog.db, operation.id)
  if (!twoPerson || !approval) return false
  // A token that is nobody's may be in anybody's hands, the approver's too.
  const { requestedUser } = approval
  if (requestedUser !== null && requestedUser !== user) return false
  if (breakGlass) return true
  throw new HoldfastError(
    'approval.second-person',
    requestedUser === null
      ? `Restores over something on ${operation.connection} need two people, and ${approval.requestedBy}, who asked for this one, is nobody in particular.`
      : `Restores over something on ${operation.connection} need two people; ${user} has asked for this one.`,
  )
}

/** The row, then the signal. If we die in between, or Temporal is away, the reconciler sends it. */
async function settle(context: ApiContext, operation: OperationRecord, decision: Decision): Promise<void> {
  const approval = await decide(context.catalog, operation.id, decision)
  try {
    await tellDecision(context, operation, approval)
  } catch (error) {
    context.log.warn('a decision is stored, and will be told to its workflow later', {
      operation: operation.id,
      reason: error instanceof Error ? error.message : String(error),
    })
  }
}

export async function tellDecision(
  { temporal }: ApiContext,
  operation: OperationRecord,
  { approvalId, state }: ApprovalRecord,
): Promise<void> {
  const run = await temporal.find(operation.workflowId, operation.id)
  if (run?.status !== 'RUNNING' || approvalId === null) return
  const signal = state === 'approved' ? 'approve' : 'reject'
  await temporal.signal(operation.workflowId, run.runId, signal, approvalId)
}
