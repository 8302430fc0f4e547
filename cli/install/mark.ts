/** The first line of each file we write: who wrote it, and what it was. A file without it is somebody else's. */
import { createHash } from 'node:crypto'
import packageJson from '../../package.json' with { type: 'json' }

const pattern = /^# Written by `holdfast install`, version (\S+), sha256 ([0-9a-f]{64})\. (?:.*)\n/

const digest = (text: string): string => createHash('sha256').update(text).digest('hex')

/** `advice`: what to do instead of editing it. */
export const marked = (text: string, advice: string): string =>
  `# Written by \`holdfast install\`, version ${packageJson.version}, sha256 ${digest(text)}. ${advice}\n${text}`

export type Authorship = { by: 'us'; version: string } | { by: 'edited'; version: string } | { by: 'others' }

export function authorship(text: string): Authorship {
  const [line, version, sum] = pattern.exec(text) ?? []
  if (line === undefined || version === undefined) return { by: 'others' }
  return { by: digest(text.slice(line.length)) === sum ? 'us' : 'edited', version }
}
