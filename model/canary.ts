/** The row that Holdfast leaves in a database before it is backed up, where the connection allows that. */
import { z } from 'zod'
import type { Manifest } from './manifest.ts'

export const canarySchema = z.strictObject({
  /** For which it was written. */
  backup: z.string().max(100),
  /** By the clock of the worker that wrote it. */
  writtenAt: z.iso.datetime(),
  /** Where the server's log was then; null: it has none. */
  lsn: z.string().max(20).nullable(),
})
export type Canary = z.infer<typeof canarySchema>

/** What was written before this backup; undefined: nothing was, or it failed. */
export function canaryOf({ facts }: Pick<Manifest, 'facts'>): Canary | undefined {
  const found = canarySchema.safeParse(facts.canary)
  return found.success ? found.data : undefined
}
