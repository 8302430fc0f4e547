/** Pieces of route definitions. */
import { z } from '@hono/zod-openapi'
import { slugPattern } from '../../model/ids.ts'
import { problem } from '../../model/schemas.ts'

export const json = <Schema extends z.ZodType>(schema: Schema, description: string) => ({
  content: { 'application/json': { schema } },
  description,
})

export const body = <Schema extends z.ZodType>(schema: Schema) => ({
  content: { 'application/json': { schema } },
  required: true as const,
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
export const noQuery = z.strictObject({})

export const limitQuery = z
  .string()
  .regex(/^\d{1,3}$/, 'use a whole number')
  .transform(Number)
  .pipe(z.int().min(1).max(200))
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
