/** What recoveries to a moment have in common, beside and in place. */
import type { PitrInput, RestoreInput } from '../model/records.ts'
import { targetWords } from '../model/recovery-time.ts'
import { long } from './steps.ts'
import type { Story } from './story.ts'
import { stopped } from './words.ts'

export const recovers = (input: RestoreInput): input is PitrInput => input.recovery !== undefined

export const recoveryTitle = ({
  recovery,
  dryRun,
  sourceConnection,
  targetConnection,
  targetDatabase,
}: PitrInput): string =>
  `${dryRun ? 'dry run: ' : ''}recover ${sourceConnection} to ${targetWords(recovery)} → ${targetConnection}: ${targetDatabase}`

/** The log over what was restored, up to the target. */
export const replayLog = (story: Story, input: PitrInput) =>
  story.phase('replay', () => long.replay(input), stopped)
