/** How the sqlite3 shell is called: never with the user's ~/.sqliterc, never creating a file, stopping at the first error. */
import type { Command } from '../engine.ts'

/** Waits this long for another session's lock. */
const busyMilliseconds = 30_000

/** A script (SQL and dot-commands) on an existing database, opened read-only. */
export function readOnlyShell(path: string, input: string, options: { safe: boolean }): Command {
  return {
    stages: [
      {
        argv: [
          'sqlite3',
          '-init',
          '/dev/null',
          '-batch',
          '-bail',
          '-readonly',
          // Dot-commands that touch other files are refused; `.backup` is one of them.
          ...(options.safe ? ['-safe'] : []),
          '-cmd',
          `.timeout ${busyMilliseconds}`,
          path,
        ],
      },
    ],
    input,
  }
}

/** SQL on an existing database that may change it; dot-commands that touch other files are refused. */
export function writingShell(path: string, input: string): Command {
  return {
    stages: [
      {
        argv: [
          'sqlite3',
          '-init',
          '/dev/null',
          '-batch',
          '-bail',
          '-safe',
          '-cmd',
          `.timeout ${busyMilliseconds}`,
          // Never creates a file.
          `file:${path.split('/').map(encodeURIComponent).join('/')}?mode=rw`,
        ],
      },
    ],
    input,
  }
}

/** Installs, for hints. */
export const installs: Record<string, string> = {
  sqlite3:
    'Install the sqlite3 command line shell (Debian, Ubuntu: apt install sqlite3; macOS: brew install sqlite).',
}
