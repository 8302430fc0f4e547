/** ETags of what is shown one by one, and `If-Match` on changes: nobody overwrites what they have not seen. */
import { createHash } from 'node:crypto'
import type { Context } from 'hono'
import { HoldfastError } from '../model/errors.ts'

const etagOf = (view: unknown): string =>
  `"${createHash('sha256').update(JSON.stringify(view)).digest('base64url').slice(0, 22)}"`

export function withEtag<View>(c: Context, view: View): View {
  c.header('ETag', etagOf(view))
  return view
}

/** Throws `request.changed` when the request names another state than this. Without the header whatever there is is meant. */
export function assertMatch(c: Context, view: unknown): void {
  const asked = c.req.header('if-match')
  if (asked === undefined || asked.trim() === '*') return
  const tags = asked.split(',').map(tag => tag.trim())
  if (tags.includes(etagOf(view))) return
  throw new HoldfastError(
    'request.changed',
    `${c.req.path} is not what it was when ${asked.slice(0, 100)} was read.`,
  )
}
