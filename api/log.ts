/** Logs of the API: one line each on standard error, JSON for programs or readable. Never bodies, headers, queries. */
import type { Settings } from '../model/settings.ts'

export type LogFields = Record<string, string | number | boolean | null | undefined>

export interface Log {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
}

const levels = ['debug', 'info', 'warn', 'error'] as const

export function createLog(
  settings: Pick<Settings, 'logLevel' | 'logFormat'>,
  write: (line: string) => void = line => void process.stderr.write(line),
): Log {
  const threshold = levels.indexOf(settings.logLevel)
  const line =
    (level: (typeof levels)[number]) =>
    (message: string, fields: LogFields = {}) => {
      if (levels.indexOf(level) < threshold) return
      const time = new Date().toISOString()
      if (settings.logFormat === 'json') {
        write(`${JSON.stringify({ time, level, message, ...fields })}\n`)
        return
      }
      const rest = Object.entries(fields)
        .filter(([, value]) => value !== undefined)
        .map(([name, value]) => ` ${name}=${oneLine(value)}`)
      write(`${time.slice(11, 19)} ${level.padEnd(5)} ${oneLine(message)}${rest.join('')}\n`)
    }
  return { debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') }
}

/** Control characters are shown escaped: nobody writes a second line into our log. */
const oneLine = (value: unknown): string =>
  String(value).replace(/\p{Cc}/gu, character => JSON.stringify(character).slice(1, -1))
