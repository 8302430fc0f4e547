/** Schemas of the public API about who may do what. As model/inputs.ts, not imported by workflows. */
import { z } from 'zod'
import { slugPattern } from './ids.ts'
import { roles } from './types.ts'

const slug = z
  .string()
  .regex(slugPattern, 'use 1 to 63 lower-case letters, digits and dashes; begin with a letter or digit')
const role = z.enum(roles)
/** Long enough not to be guessed with a pause between tries; an end, since hashing takes its time. */
const newPassword = z.string().min(12, 'use at least 12 characters').max(1024)
const givenPassword = z.string().max(1024)

export const userInput = z.strictObject({
  name: slug,
  role,
  /** Absent: no login, only tokens. */
  password: newPassword.optional(),
})
export const userChange = z.strictObject({ role: role.optional(), disabled: z.boolean().optional() })
export const passwordInput = z.strictObject({
  password: newPassword,
  /** Needed to change one's own. */
  currentPassword: givenPassword.optional(),
})

export const tokenInput = z.strictObject({
  name: slug,
  /** Absent: that of whoever asks. */
  role: role.optional(),
  /** Absent: everything the role may. `read`, `TAG:read`, `TAG:write`. */
  scopes: z
    .array(z.string().regex(/^(read|[a-z-]{1,40}:(read|write))$/, 'use read, TAG:read or TAG:write'))
    .min(1)
    .max(32)
    .optional(),
  /** Absent: all of them. It sees and does nothing of any other connection, and defines none. */
  connections: z.array(slug).min(1).max(64).optional(),
  expiresAt: z.iso.datetime({ offset: true }).optional(),
  /** Whose it is; absent: of whoever asks. `null`: nobody's, for programs. */
  user: slug.nullable().optional(),
})

export const loginInput = z.strictObject({ user: z.string().min(1).max(200), password: givenPassword })

export const userView = z.object({
  name: z.string(),
  role,
  disabled: z.boolean(),
  hasPassword: z.boolean(),
  createdAt: z.string(),
})

export const tokenView = z.object({
  id: z.string(),
  name: z.string(),
  user: z.string().nullable(),
  role,
  scopes: z.array(z.string()).nullable(),
  /** null: all of them. */
  connections: z.array(z.string()).nullable(),
  expiresAt: z.string().nullable(),
  createdAt: z.string(),
  /** To the minute. */
  lastUsedAt: z.string().nullable(),
})
/** The only answer that holds the token. */
export const tokenMade = tokenView.extend({ token: z.string() })

export const sessionView = z.object({
  id: z.string(),
  user: z.string(),
  address: z.string(),
  agent: z.string(),
  /** That of whoever asks. */
  current: z.boolean(),
  createdAt: z.string(),
  seenAt: z.string(),
  expiresAt: z.string(),
})
export const sessionMade = z.object({
  id: z.string(),
  user: z.string(),
  role,
  /** To be sent as `X-CSRF-Token` with every request that changes something. */
  csrfToken: z.string(),
  expiresAt: z.string(),
  /** It ends when it is not used for so long. */
  idleSeconds: z.int(),
})

export const selfView = z.object({
  name: z.string(),
  user: z.string().nullable(),
  via: z.enum(['token', 'session']),
  /** Id of the token or session. */
  credential: z.string(),
  role,
  scopes: z.array(z.string()).nullable(),
  connections: z.array(z.string()).nullable(),
  expiresAt: z.string().nullable(),
  /** Of a session. */
  csrfToken: z.string().nullable(),
})

export const auditView = z.object({
  seq: z.int(),
  at: z.string(),
  actor: z.string(),
  /** Of the token or session. */
  credential: z.string().nullable(),
  role: z.string().nullable(),
  address: z.string().nullable(),
  action: z.string(),
  object: z.string(),
  outcome: z.enum(['done', 'refused', 'failed', 'unknown']),
  detail: z.record(z.string(), z.unknown()),
  hash: z.string(),
})
export const auditCheckView = z.object({
  rows: z.int(),
  /** Of the newest row. Keep it elsewhere to notice an old catalog that was put back. */
  hash: z.string(),
  /** The first row that is not as it was written, or is missing. */
  brokenAt: z.int().nullable(),
  /** The last row that was pruned; 0: none was. */
  prunedTo: z.int(),
})
export const auditPruneInput = z.strictObject({
  /** Rows of before this time go; the last thirty days are always kept. */
  before: z.iso.datetime({ offset: true }),
  reason: z.string().max(1000).optional(),
  dryRun: z.boolean().optional(),
})
export const auditPruneView = z.object({
  /** How many went, or would go. */
  rows: z.int(),
  prunedTo: z.int(),
})

export type UserView = z.infer<typeof userView>
export type TokenView = z.infer<typeof tokenView>
export type TokenMade = z.infer<typeof tokenMade>
export type SessionMade = z.infer<typeof sessionMade>
export type SessionView = z.infer<typeof sessionView>
export type AuditView = z.infer<typeof auditView>
