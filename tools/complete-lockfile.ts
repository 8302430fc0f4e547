/**
 * `npm run lockfile`: adds what a registry mirror without other platforms leaves out. Native packages name one optional
 * package per platform; npm drops those it cannot find from the lockfile, and `npm ci` then refuses the lockfile. Entries
 * are made from the name: exact version from the parent, platform from the suffix, no integrity (nobody here saw it).
 */
import { readFileSync, writeFileSync } from 'node:fs'

interface Entry {
  version?: string
  optional?: boolean
  dev?: boolean
  os?: string[]
  cpu?: string[]
  libc?: string[]
  optionalDependencies?: Record<string, string>
}

const path = new URL('../package-lock.json', import.meta.url)
const lock = JSON.parse(readFileSync(path, 'utf8')) as { packages: Record<string, Entry> }
const systems = [
  'android',
  'darwin',
  'freebsd',
  'linux',
  'openharmony',
  'win32',
  'sunos',
  'aix',
  'openbsd',
  'netbsd',
  'wasm32',
]
const processors = [
  'arm64',
  'arm',
  'ia32',
  'loong64',
  'mips64el',
  'ppc64',
  'riscv64',
  's390x',
  'x64',
  'universal',
]

let added = 0
for (const [where, entry] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const nested = `${where}/node_modules/${name}`
    if (where === '' || lock.packages[nested] || lock.packages[`node_modules/${name}`]) continue
    const words = name.split(/[-/]/)
    const os = systems.filter(system => words.includes(system))
    const cpu = processors.filter(processor => words.includes(processor))
    if (os.length === 0 || !/^\d/.test(version)) continue
    const libc = words.some(word => word.startsWith('musl'))
      ? ['musl']
      : words.some(word => word.startsWith('gnu')) && os.includes('linux')
        ? ['glibc']
        : undefined
    lock.packages[`node_modules/${name}`] = {
      version,
      ...(cpu.length > 0 && !cpu.includes('universal') ? { cpu } : {}),
      ...(entry.dev ? { dev: true } : {}),
      ...(libc ? { libc } : {}),
      optional: true,
      os,
    }
    added += 1
  }
}
const sorted = Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
lock.packages = Object.fromEntries(sorted)
writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`)
console.log(`${added} optional packages of other platforms added`)
