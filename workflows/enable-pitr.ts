import { isCancellation } from '@temporalio/workflow'
import type { WhereArchived } from '../activities/enable-pitr.ts'
import type { EnablePitrInput } from '../model/records.ts'
import { factsOf } from './facts.ts'
import { type Told, toItsEnd } from './outcome.ts'
import { cleanHost, long, patient, quick } from './steps.ts'
import { type Story, tell } from './story.ts'

/** Makes a server archive its log, and sees a segment of it arrive. Takes no lock of the server: it may wait for days. */
export async function enablePitr(input: EnablePitrInput): Promise<Told> {
  const story = tell(
    input,
    `${input.dryRun ? 'dry run: ' : ''}enable log archiving of ${input.connection} (${input.engine})`,
  )
  let touched = false
  return await toItsEnd(
    input.operationId,
    story,
    async () => {
      const plan = await story.phase(
        'plan',
        () => quick.planEnabling(input),
        ({ title }) => title,
      )
      if (!input.dryRun) {
        touched = true
        await story.phase('set', () => quick.setArchiving(input))
        if (plan.restart.length > 0) {
          await story.phase(
            'restart',
            () => quick.expectInEffect(input),
            () => plan.restart.join(', '),
          )
        }
        await proven(story, input)
      }
      await story.phase('cleanup', () => cleanHost(input.operationId))
      return plan.warnings
    },
    async () => {
      if (touched) await takeBack(story, input)
      await cleanHost(input.operationId)
      return false
    },
  )
}

async function proven(story: Story, input: EnablePitrInput): Promise<void> {
  const where = await story.phase(
    'prove',
    async () => {
      const { segment } = await long.proveArchiving(input)
      return { segment, ...(await quick.findArchived(input, segment)) }
    },
    ({ segment, found }) =>
      found.length === 0 ? `${segment} archived` : `${segment} is in ${found.join(', ')}`,
  )
  story.flaw = flawOf(input, where)
  for (const { destination, detail } of where.silent) {
    story.warnings.push(`Whether ${destination} has the archive could not be seen: ${detail}`)
  }
}

/** The server is content, and what it archives is not where it is looked for. */
function flawOf({ connection }: EnablePitrInput, { found, without, silent }: WhereArchived) {
  if (without.length > 0) {
    return {
      code: 'wal.gap' as const,
      detail: `${connection} archives, and what it archived just now is not in ${without.join(', ')}, where its archive is.`,
      hint: 'Look at which wal.json its archive_command names, and at the destinations in it.',
    }
  }
  if (found.length > 0 || silent.length > 0) return null
  return {
    code: 'wal.no-archive' as const,
    detail: `${connection} archives, and into no destination that Holdfast knows.`,
    hint: 'Add the destination of its wal.json (`holdfast destination add`), under which the archive goes by the name of the connection.',
  }
}

/** What cannot be taken back is said, with what to do. */
async function takeBack(story: Story, input: EnablePitrInput): Promise<void> {
  try {
    const left = await patient.takeBackArchiving(input)
    if (left.length === 0) return
    story.warnings.push(
      `What was set is taken back; ${left.join(', ')} stays as it is until the server is restarted. With archive_mode on and no archive_command pg_wal grows until then.`,
    )
  } catch (error) {
    if (isCancellation(error)) throw error
    const { connection } = input
    story.warnings.push(
      `What was set at ${connection} could not be taken back (${factsOf(error).detail}): see \`SELECT * FROM pg_file_settings\`, and ALTER SYSTEM RESET what is not wanted.`,
    )
  }
}
