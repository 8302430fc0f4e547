/** What the programs of a job said on standard error, worst first. */
import type { Place } from './place.ts'

/** Bytes of standard error kept per stage; preallocated, so that the reason of a full disk survives it. */
export const tailBytes = 8192

/** A pipe's death (141) is another stage's fault; a success only comments. */
const blame = (exit: number) => (exit === 0 ? 2 : exit === 141 ? 1 : 0)

/** At most 8 KiB: the stage that failed last comes first, then others that failed, then the rest. */
export async function stderrTail(
  place: Place,
  runDirectory: string,
  exits: readonly number[],
  secrets: readonly string[] = [],
): Promise<string> {
  const said = await place.reach.tails(runDirectory, exits.length)
  const stages = exits.map((exit, index) => ({ exit, index, text: textOf(said[index] ?? Buffer.alloc(0)) }))
  stages.sort((a, b) => blame(a.exit) - blame(b.exit) || b.index - a.index)
  let text = stages
    .map(stage => stage.text)
    .filter(one => one !== '')
    .join('\n')
  for (const secret of secrets) {
    const core = secret.trim()
    if (core.length >= 4) text = text.replaceAll(core, '***')
  }
  return text.length > tailBytes ? text.slice(0, tailBytes) : text
}

function textOf(bytes: Buffer): string {
  let end = bytes.length
  while (end > 0 && bytes[end - 1] === 0) end -= 1
  return bytes.subarray(0, end).toString('utf8').trimEnd()
}
