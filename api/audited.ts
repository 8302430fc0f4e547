/** An audit row for every change and every refusal, whatever the route: none of them has to think of it. */
import type { z } from '@hono/zod-openapi'
import type { Context, MiddlewareHandler } from 'hono'
import { type AuditEntry, audit, beginAudited, endAudited } from '../catalog/audit.ts'
import { errorTable, isErrorCode } from '../model/errors.ts'
import type { Actor } from '../model/records.ts'
import type { Json } from '../model/types.ts'
import type { ApiContext, ApiEnv } from './context.ts'
import { type Needed, type RouteName, routeOf } from './roles.ts'

/** Of a request's body only these are kept: nothing that could be a secret has one of these names. */
const toldOfRequest = [
  'name',
  'connection',
  'destination',
  'destinations',
  'failover',
  'to',
  'from',
  'backup',
  'target',
  'planDigest',
  'database',
  'type',
  'level',
  'thaw',
  'budgetBytes',
  'reason',
  'dryRun',
  'overwriteExisting',
  'allow',
  'timeline',
  'action',
  'base',
  'start',
  'only',
  'role',
  'user',
  'disabled',
  'scopes',
  'connections',
  'expiresAt',
  'readOnly',
  'to',
  'openedElsewhere',
  'program',
  'config',
  'archiveTimeoutSeconds',
  'replace',
  'slot',
]
/** Of an answer: what was made. */
const toldOfAnswer = ['id', 'name', 'state', 'epoch']

const nobody = 'nobody'

const isRead = (c: Context<ApiEnv>): boolean => c.req.method === 'GET' || c.req.method === 'HEAD'

/** Outermost of what concerns requests to /v1: sees every answer, whoever gave it. */
export const withAudit =
  (context: ApiContext): MiddlewareHandler<ApiEnv> =>
  async (c, next) => {
    c.set('begunEntry', null)
    c.set('auditDetail', {})
    await next()
    const { status } = c.res
    if (isRead(c) ? status !== 401 && status !== 403 && status !== 429 : isReplay(c.res)) return
    const begun = c.get('begunEntry')
    const entry = await finished(c)
    try {
      if (begun !== null) await endAudited(context.catalog, begun.id, entry)
      else if (entry.actor.name !== nobody || context.strangers.admit(entry))
        await audit(context.catalog, entry)
    } catch (error) {
      // The change was made. What was begun stays on record and is settled as unknown by the next process.
      context.log.error('an audit row could not be written', {
        action: entry.action,
        outcome: entry.outcome,
        reason: error instanceof Error ? error.message : String(error),
      })
    }
  }

/** Innermost: from here on something may be changed. When this cannot be written, nothing is. */
export const withBegunAudit =
  (
    { catalog, process }: ApiContext,
    needed: () => ReadonlyMap<RouteName, Needed>,
  ): MiddlewareHandler<ApiEnv> =>
  async (c, next) => {
    const route = routeOf(c)
    // Who is not known yet changes nothing but by proving who they are; that has its row when it is proven.
    if (!isRead(c) && route !== undefined && (c.get('actor') as Actor | undefined)) {
      const detail = await detailOf(c, needed().get(route)?.body)
      const id = await beginAudited(catalog, process, { ...asked(c), detail })
      c.set('begunEntry', { id, detail })
    }
    await next()
  }

const isReplay = (answer: Response): boolean => answer.headers.get('idempotency-replayed') === 'true'

/** What is no valid request may hold anything anywhere, a password in the field of the name: nothing of it is kept. */
async function detailOf(c: Context<ApiEnv>, schema: z.ZodType | undefined): Promise<Record<string, Json>> {
  if (!c.req.raw.bodyUsed) return {}
  const given = parsed(await c.req.text())
  return schema?.safeParse(given).success ? told(given, toldOfRequest) : {}
}

function asked(c: Context<ApiEnv>) {
  // Absent when the request was refused before anybody knew whose it is.
  const actor: Actor | undefined = c.get('actor')
  return {
    at: new Date().toISOString(),
    actor: actor ?? { name: nobody, address: c.get('address') },
    action: routeOf(c) ?? `${c.req.method} (unknown address)`,
    object: shownPath(c.req.path),
  }
}

async function finished(c: Context<ApiEnv>): Promise<AuditEntry> {
  const { status } = c.res
  const type = c.res.headers.get('content-type') ?? ''
  const answer = type.includes('json') ? parsed(await c.res.clone().text()) : {}
  const outcome = status < 400 ? 'done' : status < 500 ? 'refused' : 'failed'
  const said = outcome === 'done' ? made(answer) : { status, ...refusal(answer) }
  // Also what only the route finds invalid.
  const detail = answer.code === 'request.invalid' ? {} : c.get('begunEntry')?.detail
  return { ...asked(c), outcome, detail: { ...detail, ...said, ...c.get('auditDetail') } }
}

function made(answer: Record<string, unknown>): Record<string, Json> {
  const { operation } = answer
  if (operation === null || typeof operation !== 'object') return told(answer, toldOfAnswer)
  return { operation: String((operation as { id?: unknown }).id) }
}

/** Details of errors hold no secrets: that is a rule of its own. */
function refusal({ code, detail }: Record<string, unknown>): Record<string, Json> {
  if (!isErrorCode(code)) return {}
  return { code, title: errorTable[code].title, ...(typeof detail === 'string' ? { said: detail } : {}) }
}

function told(from: Record<string, unknown>, names: readonly string[]): Record<string, Json> {
  const kept = names.filter(name => Object.hasOwn(from, name)).map(name => [name, short(from[name])])
  return Object.fromEntries(kept)
}

/** Long texts are cut, and of an object only its plain values are kept. */
function short(value: unknown): Json {
  if (typeof value === 'string') return value.slice(0, 1000)
  if (typeof value === 'number' || typeof value === 'boolean') return value
  if (Array.isArray(value)) return value.slice(0, 20).map(short)
  if (value === null || typeof value !== 'object') return null
  const plain = Object.entries(value).filter(([, inner]) => typeof inner !== 'object')
  return Object.fromEntries(plain.slice(0, 20).map(([name, inner]) => [name.slice(0, 100), short(inner)]))
}

function parsed(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    return value !== null && typeof value === 'object' && !Array.isArray(value) ? { ...value } : {}
  } catch {
    return {}
  }
}

const shownPath = (path: string): string => path.replace(/\p{Cc}/gu, '?').slice(0, 300)
