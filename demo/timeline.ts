/** What the demo tells: one short line each, with the seconds since it began. */
import { padEnd, padStart, paint, print } from '../cli/terminal.ts'

export interface Timeline {
  title(text: string): void
  /** A mark, one word, what happened, how long it took. */
  step(mark: '✓' | '✗' | '·', word: string, text: string, since?: number): void
  /** Passed on from what is started: hints, progress of a download. */
  aside(text: string): void
  seconds(): number
}

export function openTimeline(): Timeline {
  const began = performance.now()
  const seconds = () => (performance.now() - began) / 1000
  const clock = () => paint('dim', padStart(`${seconds().toFixed(1)} s`, 8))
  const colours = { '✓': 'green', '✗': 'red', '·': 'cyan' } as const
  return {
    title: text => print(`\n${paint('bold', text)}`),
    step: (mark, word, text, since) => {
      const took =
        since === undefined ? '' : paint('dim', `  ${((performance.now() - since) / 1000).toFixed(1)} s`)
      print(`${clock()}  ${paint(colours[mark], mark)} ${padEnd(word, 8)}  ${text}${took}`)
    },
    aside: text => print(`${clock()}  ${paint('dim', text)}`),
    seconds,
  }
}
