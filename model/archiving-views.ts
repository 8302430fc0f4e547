/** What the API takes and says of how a server archives its log. */
import { z } from 'zod'
import { archivingFacts } from './archiving.ts'
import { checkResult } from './views.ts'

/** Becomes a word of archive_command, which a shell reads. */
const plainPath = z
  .string()
  .regex(/^\/[A-Za-z0-9._/@+-]{1,200}$/, 'use an absolute path of letters, digits and ._/@+-')

export const enablePitrInput = z.strictObject({
  /** Of the machine of the server: the launcher that archive_command calls; absent: `holdfast`, on its PATH. */
  program: plainPath.optional(),
  /** Of that machine: its wal.json; absent: /etc/holdfast/wal.json. */
  config: plainPath.optional(),
  archiveTimeoutSeconds: z.int().min(1).max(86_400).optional(),
  /** Another archiver is replaced. */
  replace: z.boolean().optional(),
  /** Nobody watches: it parks from the first step on. */
  unattended: z.boolean().optional(),
  dryRun: z.boolean().optional(),
})
export type EnablePitrRequest = z.infer<typeof enablePitrInput>

export const archivingView = archivingFacts
  .omit({ segmentBytes: true, dataDirectory: true })
  .extend({ connection: z.string(), checks: z.array(checkResult) })
