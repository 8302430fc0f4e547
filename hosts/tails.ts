/** What the programs of a job said on standard error, worst first. */
import { readFile } from 'node:fs/promises'
import { errno } from './files.ts'
import { tailBytes } from './launch.ts'

/** A pipe's death (141) is another stage's fault; a success only comments. */
const blame = (exit: number) => (exit === 0 ? 2 : exit === 141 ? 1 : 0)

/** At most 8 KiB: the stage that failed last comes first, then others that failed, then the rest. */
export async function stderrTail(
  runDirectory: string,
  exits: readonly number[],
  secrets: readonly string[] = [],
): Promise<string> {
  const stages = await Promise.all(
    exits.map(async (exit, index) => ({
      exit,
      index,
      text: await oneTail(`${runDirectory}/stderr.${index}`),
    })),
  )
  stages.sort((a, b) => blame(a.exit) - blame(b.exit) || b.index - a.index)
  let text = stages
    .map(stage => stage.text)
    .filter(said => said !== '')
    .join('\n')
  for (const secret of secrets) {
    const core = secret.trim()
    if (core.length >= 4) text = text.replaceAll(core, '***')
  }
  return text.length > tailBytes ? text.slice(0, tailBytes) : text
}

async function oneTail(path: string): Promise<string> {
  try {
    const bytes = await readFile(path)
    let end = bytes.length
    while (end > 0 && bytes[end - 1] === 0) end -= 1
    return bytes.subarray(0, end).toString('utf8').trimEnd()
  } catch (cause) {
    if (errno(cause) === 'ENOENT') return ''
    throw cause
  }
}
