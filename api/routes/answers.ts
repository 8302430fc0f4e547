/** Pieces of route definitions. */
import { z } from '@hono/zod-openapi'
import { slugPattern } from '../../model/ids.ts'
import { problem } from '../../model/views.ts'

export const json = <Schema extends z.ZodType>(schema: Schema, description: string) => ({
  content: { 'application/json': { schema } },
  description,
})

/** It may be left out when nothing in it is needed. */
export const body = <Schema extends z.ZodType>(schema: Schema) => ({
  content: { 'application/json': { schema } },
  required: !schema.safeParse({}).success,
})

/** Every refusal. */
export const problems = {
  default: {
    content: { 'application/problem+json': { schema: problem } },
    description: 'What went wrong: a stable code, what happened, what to do',
  },
}

export const nothing = z.strictObject({})
export const nameParam = z.object({ name: z.string().regex(slugPattern, 'not a valid name') })
export const operationParam = z.object({
  id: z.string().regex(/^op-[A-Za-z0-9]{4,40}$/, 'not an operation id'),
})
export const noQuery = z.strictObject({})

export const limitQuery = z
  .string()
  .regex(/^([1-9]\d?|1\d\d|200)$/, 'use a whole number from 1 to 200')
  .transform(Number)
  .optional()

/** Cursors are opaque: a time and an id. */
export const cursorQuery = z
  .string()
  .max(200)
  .transform((text, context) => {
    const cursor = readCursor(text)
    if (cursor) return cursor
    context.addIssue('not a cursor of this list')
    return z.NEVER
  })
  .optional()

export const cursorOf = (time: string, id: string): string =>
  Buffer.from(JSON.stringify([time, id])).toString('base64url')

function readCursor(text: string): { time: string; id: string } | undefined {
  try {
    const [time, id] = z
      .tuple([z.string(), z.string()])
      .parse(JSON.parse(Buffer.from(text, 'base64url').toString('utf8')))
    return { time, id }
  } catch {
    return undefined
  }
}

/** One page of a list that was asked for one item more than a page holds. */
export function pageOf<Item, View>(
  found: readonly Item[],
  limit: number,
  cursor: (last: Item) => string,
  view: (item: Item) => View,
): { items: View[]; nextCursor: string | null } {
  const shown = found.slice(0, limit)
  const last = found.length > limit ? shown.at(-1) : undefined
  return { items: shown.map(view), nextCursor: last === undefined ? null : cursor(last) }
}

/** Of lists that are short and known whole: the page after the cursor, in the order of `key`. */
export function pageByKey<Item, View>(
  all: readonly Item[],
  { cursor, limit = 200 }: { cursor?: { id: string } | undefined; limit?: number | undefined },
  key: (item: Item) => string,
  view: (item: Item) => View,
): { items: View[]; nextCursor: string | null } {
  const sorted = [...all].sort((a, b) => (key(a) < key(b) ? -1 : 1))
  const after = cursor === undefined ? sorted : sorted.filter(item => key(item) > cursor.id)
  return pageOf(after, limit, last => cursorOf('', key(last)), view)
}

export const pageQuery = { cursor: cursorQuery, limit: limitQuery }
