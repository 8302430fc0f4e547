/** Pythons with packages of PyPI at pinned versions, installed once per machine: programs of others that test what we make. */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isThere, locked, toolsDirectory } from './cache.ts'

/** Google's Tink and `jwcrypto`: the other implementation of our encryption format, as its worked example has them. */
export const pythonWithTink = (): Promise<string> =>
  pythonWith('tink', join(import.meta.dirname, '../../docs/formats/example/requirements.txt'))

/** Path of a Python that has what the file requires; `main` is its package that names the folder. Waits while another process installs it. */
export async function pythonWith(main: string, requirements: string): Promise<string> {
  const text = await readFile(requirements, 'utf8')
  const version = new RegExp(`^${main}==(.+)$`, 'm').exec(text)?.[1]
  const digest = createHash('sha256').update(text).digest('hex').slice(0, 8)
  const home = join(toolsDirectory, `python-${main}-${version}-${digest}`)
  const python = join(home, 'bin', 'python')
  await mkdir(toolsDirectory, { recursive: true })
  if (!(await isThere(join(home, 'ready')))) {
    await locked(`${home}.lock`, async () => {
      if (await isThere(join(home, 'ready'))) return
      process.stderr.write(`installing Python packages of ${requirements} into ${home}\n`)
      await rm(home, { recursive: true, force: true })
      await run('python3', ['-m', 'venv', home])
      await run(python, ['-m', 'pip', 'install', '-q', '--disable-pip-version-check', '-r', requirements])
      await writeFile(join(home, 'ready'), '')
    })
  }
  return python
}

/** Runs the program to its end; its output. Throws with its last lines when it fails. */
export async function run(program: string, args: readonly string[], input?: Uint8Array): Promise<Buffer> {
  const child = spawn(program, args, { stdio: 'pipe' })
  const out: Buffer[] = []
  const err: Buffer[] = []
  child.stdout.on('data', chunk => out.push(chunk))
  child.stderr.on('data', chunk => err.push(chunk))
  child.stdin.on('error', () => {}) // it may end before it has read everything
  child.stdin.end(input)
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  if (code === 0) return Buffer.concat(out)
  const said = Buffer.concat([...err, ...out])
    .toString('utf8')
    .slice(-2000)
  throw new Error(`${program} ${args[0] ?? ''} … ended with ${code}: ${said}`)
}
