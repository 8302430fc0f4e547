/** The administrator's settings file: lines `NAME=value`, read by systemd, ours to add to and theirs to edit. */
import { HoldfastError } from '../../model/errors.ts'
import { type Part, secrets } from './layout.ts'

/** What an installation takes over from the environment of whoever installs; secrets go elsewhere. */
const taken = /^HOLDFAST_(API|TEMPORAL|LOG)_/
/** Of a worker alone: where the API is. Beside the API it is known, and what the shell says may mean another one. */
const takenByWorker = /^HOLDFAST_(URL|CA|MACHINE_WAIT_SECONDS)$/
const notTaken = new Set<string>(secrets.flatMap(name => [name, `${name}_FILE`]))

const heading = `# Settings of Holdfast's services, see docs/configuration.md; yours to edit. After a change: systemctl restart 'holdfast-*'.
# Secrets do not belong here but in /etc/holdfast/credentials, by \`holdfast install\`.
`

/** The file's text with what `env` says: other lines, comments too, stay as they are. */
export function settingsText(
  present: string | undefined,
  env: Record<string, string | undefined>,
  part: Part,
): { text: string; values: Record<string, string> } {
  const lines = (present ?? heading).replace(/\n$/, '').split('\n')
  for (const [name, value] of Object.entries(env).sort()) {
    const wanted = taken.test(name) || (part === 'worker' && takenByWorker.test(name))
    if (!value || !wanted || notTaken.has(name)) continue
    const line = `${name}=${quoted(name, value)}`
    const index = lines.findIndex(one => one.startsWith(`${name}=`))
    if (index === -1) lines.push(line)
    else lines[index] = line
  }
  const values: Record<string, string> = {}
  for (const line of lines) {
    const [, name, value = ''] = /^\s*([A-Z_]+)=(.*)$/.exec(line) ?? []
    if (name !== undefined)
      values[name] = value.trim().replace(/^"(.*)"$/, (_, inner) => inner.replace(/\\(.)/g, '$1'))
  }
  return { text: `${lines.join('\n')}\n`, values }
}

function quoted(name: string, value: string): string {
  if (/[\n\r]/.test(value)) {
    throw new HoldfastError('settings.invalid', `${name} has a line break in it.`)
  }
  return /^[\w./:@,+-]*$/.test(value) ? value : `"${value.replace(/["\\$`]/g, '\\$&')}"`
}
