/** Where the replay of a log has ended, in the server's words. */
import { z } from 'zod'

const words = z.string().max(500).nullable()
export const replayedSchema = z.strictObject({
  /** Of the last record that was read: replayed, or the one that it stopped before; null: it did not say. */
  lsn: words,
  /** By the clock of the server that was backed up. */
  lastTransactionAt: words,
  /** For what it stopped: "before commit of transaction 752, time …". */
  stoppedAt: words,
  /** Of the copy. */
  timeline: z.int(),
})
export type Replayed = z.infer<typeof replayedSchema>
