/** What our Dockerfile says, for tests that do without an engine: its last stage, and the files it takes along. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

const root = join(import.meta.dirname, '../..')

export interface Dockerfile {
  user: string
  entrypoint: string[]
  command: string[]
  healthcheck: string[]
  workdir: string
  env: Record<string, string>
  /** Files and directories of the repository that are copied into the image. */
  files: string[]
  /** Each instruction of the last stage. */
  instructions: { name: string; text: string }[]
}

export async function readDockerfile(): Promise<Dockerfile> {
  const text = await readFile(join(root, 'Dockerfile'), 'utf8')
  const all = text
    .split('\n')
    .filter(line => !/^\s*#/.test(line))
    .join('\n')
    .replace(/\\\n/g, ' ')
    .split('\n')
    .flatMap(line => {
      const match = /^([A-Z]+)\s+(.*)$/.exec(line.trim())
      return match ? [{ name: match[1] ?? '', text: match[2] ?? '' }] : []
    })
  const last = all.slice(all.findLastIndex(one => one.name === 'FROM'))
  const of = (name: string) => last.filter(one => one.name === name).map(one => one.text)
  const only = (name: string) => {
    const found = of(name)
    if (found.length !== 1) throw new Error(`The last stage of the Dockerfile has ${found.length} ${name}.`)
    return found[0] ?? ''
  }
  const env: Record<string, string> = {}
  for (const word of of('ENV').join(' ').split(/\s+/)) {
    const [name = '', ...value] = word.split('=')
    env[name] = value.join('=')
  }
  return {
    user: only('USER'),
    entrypoint: JSON.parse(only('ENTRYPOINT')),
    command: JSON.parse(only('CMD')),
    healthcheck: JSON.parse(only('HEALTHCHECK').replace(/^.*?CMD /, '')),
    workdir: only('WORKDIR'),
    env,
    files: of('COPY')
      .filter(line => !line.startsWith('--from'))
      .flatMap(line => line.split(/\s+/).slice(0, -1)),
    instructions: last,
  }
}
