/**
 * What process trees cost: processor time, resident memory. Reads Linux's /proc, so that both sides of a comparison are
 * measured in the same way.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'

interface Seen {
  pid: number
  parent: number
  /** With the pid this names one process; pids alone are used again. */
  startedAtTicks: string
  /** Own time, and that of children that ended and were waited for. */
  ticks: number
  residentPages: number
}

const ticksPerSecond = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))
const pageBytes = Number(execFileSync('getconf', ['PAGESIZE'], { encoding: 'utf8' }))

/** undefined when the process is gone. */
function look(pid: number): Seen | undefined {
  let text: string
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch {
    return undefined
  }
  // The program's name may hold anything, also spaces and parentheses: what counts begins after the last one.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const number = (index: number) => Number(fields[index])
  return {
    pid,
    parent: number(1),
    startedAtTicks: fields[19] ?? '',
    ticks: number(11) + number(12) + number(13) + number(14),
    residentPages: number(21),
  }
}

export interface Tree {
  /** Looks at every process of the tree; returns the sum of their resident memory. Shared pages count once for each. */
  sample(): number
  /** Processor seconds (user and system) since the tree was first watched, of processes that ended, too. */
  cpuSeconds(): number
}

/**
 * Watches these processes and everything they start, also what loses its parent meanwhile. A process that lives shorter
 * than the time between two samples is counted through the parent that waited for it.
 */
export function watchTree(roots: readonly number[]): Tree {
  const tracked = new Map<number, Seen>()
  /** Nobody of ours waited for these: their time is in no parent's sum. */
  let lostTicks = 0
  /** Looked at once and not ours: nobody becomes ours later, so that a sample reads few files. */
  let strangers = new Set<number>()

  const refresh = (): void => {
    const gone = new Map<number, Seen>()
    for (const [pid, before] of tracked) {
      const now = look(pid)
      if (now?.startedAtTicks === before.startedAtTicks) tracked.set(pid, now)
      else gone.set(pid, before)
    }
    for (const pid of gone.keys()) tracked.delete(pid)
    for (const one of gone.values()) {
      // Whoever waited for it may be gone meanwhile, too, and was waited for in turn.
      let waited = one.parent
      for (let above = gone.get(waited); above !== undefined; above = gone.get(waited)) waited = above.parent
      if (!tracked.has(waited)) lostTicks += one.ticks
    }
    const fresh: Seen[] = []
    const alive = new Set<number>()
    for (const name of readdirSync('/proc')) {
      const pid = Number(name)
      if (!Number.isInteger(pid)) continue
      alive.add(pid)
      if (tracked.has(pid) || strangers.has(pid)) continue
      const found = look(pid)
      if (found) fresh.push(found)
    }
    // Children have not always higher numbers than their parents: repeat until nobody new belongs to us.
    for (let grew = true; grew; ) {
      grew = false
      for (const one of fresh) {
        if (tracked.has(one.pid) || !(tracked.has(one.parent) || roots.includes(one.pid))) continue
        tracked.set(one.pid, one)
        grew = true
      }
    }
    for (const one of fresh) strangers.add(one.pid)
    strangers = new Set([...strangers].filter(pid => alive.has(pid) && !tracked.has(pid)))
  }
  const total = (): number => {
    let ticks = lostTicks
    for (const one of tracked.values()) ticks += one.ticks
    return ticks
  }
  refresh()
  const before = total()
  return {
    sample() {
      refresh()
      let pages = 0
      for (const one of tracked.values()) pages += one.residentPages
      return pages * pageBytes
    },
    cpuSeconds() {
      refresh()
      return (total() - before) / ticksPerSecond
    },
  }
}

/** Highest resident memory of one process since it began, or since `forgetPeak`. */
export function peakBytes(pid: number): number {
  const line = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))
  if (!line) throw new Error(`/proc/${pid}/status has no VmHWM`)
  return Number(line[1]) * 1024
}

/** Lets the kernel begin anew with the process's peak. */
export async function forgetPeak(pid: number): Promise<void> {
  await writeFile(`/proc/${pid}/clear_refs`, '5')
}
