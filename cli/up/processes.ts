/** Telling processes apart: pids are reused, so a process is its pid and the moment it started. */
import { readFileSync } from 'node:fs'

export interface ProcessMark {
  pid: number
  /** Start time in the kernel's ticks; empty where there is no /proc. */
  started: string
}

export const markOf = (pid: number): ProcessMark => ({ pid, started: startOf(pid) ?? '' })

/** A zombie does not live. */
export function processLives(mark: ProcessMark): boolean {
  try {
    process.kill(mark.pid, 0)
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
  return (startOf(mark.pid) ?? '') === mark.started
}

function startOf(pid: number): string | undefined {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19]
  } catch {
    return undefined
  }
}
