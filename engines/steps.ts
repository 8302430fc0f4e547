/** What restores of every engine are made of. */
import type { Command, Step } from './engine.ts'

export const one = (...argv: [string, ...string[]]): Command => ({ stages: [{ argv }] })

/** A step that changes the target and, whoever died in it, is done again from its beginning. */
export const step = (id: string, title: string, run: Command): Step => ({
  id,
  title,
  run,
  output: { to: 'none' },
  resume: 'restart',
  writesTo: 'target',
})
