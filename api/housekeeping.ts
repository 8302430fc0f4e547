/** What is done now and again: counted refusals, what has run out, what a dead process had begun. */

import { removeForgottenProbes } from '../activities/probe.ts'
import { audit, settleBegun } from '../catalog/audit.ts'
import { forgetRequestsBefore } from '../catalog/idempotency.ts'
import { lockOpenedKeys } from '../catalog/opened-keys.ts'
import { forgetTries } from '../catalog/password-limits.ts'
import { forgetSessions } from '../catalog/sessions.ts'
import type { ApiContext } from './context.ts'

const everySeconds = 60
const idempotencyDays = 7
/** A process that lost its way to the catalog for a moment counts as dead until it is back. */
const backMs = 30_000

/** Returned is what ends it, with the last of it done. */
export function startHousekeeping(context: ApiContext): () => Promise<void> {
  const { catalog, strangers, log } = context
  const tidy = async (ending: boolean) => {
    const now = Date.now()
    for (const entry of strangers.counted(ending)) await audit(catalog, entry)
    await forgetRequestsBefore(catalog, new Date(now - idempotencyDays * 86_400_000).toISOString())
    await forgetSessions(catalog)
    await forgetTries(catalog)
    await lockOpenedKeys(catalog)
    const before = new Date(now - (catalog.shared ? backMs : 0)).toISOString()
    const lost = await settleBegun(catalog, context.process, before)
    if (lost > 0) log.warn('changes were begun by a process that died; see the audit', { changes: lost })
    await removeForgottenProbes(await context.host())
  }
  let round = Promise.resolve()
  const next = (ending = false) => {
    round = round.then(() =>
      tidy(ending).catch(error => {
        log.error('housekeeping failed', { reason: error instanceof Error ? error.message : String(error) })
      }),
    )
  }
  next()
  const timer = setInterval(next, everySeconds * 1000)
  return async () => {
    clearInterval(timer)
    next(true)
    await round
  }
}
