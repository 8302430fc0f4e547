/** Whose word counts in an archive: an installation vouches for archivers that no configuration names. */
import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { type Archive, openArchive } from '../../cli/wal/archive.ts'
import { initWal } from '../../cli/wal/init.ts'
import { HoldfastError } from '../../model/errors.ts'
import type { WalConfig } from '../../model/wal-format.ts'
import { createInstallation, createKey, type InstallationKeys } from '../../storage/keys.ts'
import { listArchivers, vouchFor } from '../../storage/wal/archivers.ts'
import { scratch } from '../support/temporary.ts'
import { dataDirectory, segmentOf, systemIdentifier } from './segments.ts'

const stream = { connection: 'shop', systemIdentifier }
const [first = '', second = ''] = [3, 4].map(number => `00000001000000000000000${number}`)
const refused = (code: string) => (error: unknown) => error instanceof HoldfastError && error.code === code

interface Host {
  archive: Archive
  path: (name: string) => string
}

/** Two hosts of one server, neither of which was told of the other; the key file names `ours`. */
async function twoHosts(place: string, ours: InstallationKeys): Promise<{ primary: Host; standby: Host }> {
  const store = join(place, 'store')
  await mkdir(store)
  await createKey(place, 'mine', { [ours.installationId]: ours.publicKey })
  const key = join(place, 'mine.json')
  const host = async (name: string): Promise<Host> => {
    const config = join(place, name, 'etc', 'wal.json')
    const path = await dataDirectory(join(place, name, 'data'))
    await initWal({
      config,
      connection: 'shop',
      dataDirectory: join(place, name, 'data'),
      to: [store],
      encryptTo: [key],
      settings: {},
    })
    const made = JSON.parse(await readFile(config, 'utf8')) as WalConfig
    assert.deepEqual(made.installations, { [ours.installationId]: ours.publicKey })
    await writeFile(config, JSON.stringify({ ...made, openWith: [key], patienceSeconds: 1 }))
    const archive = await openArchive(config)
    await archive.begin()
    await archive.begin()
    return { archive, path }
  }
  return { primary: await host('primary'), standby: await host('standby') }
}

describe('an archiver that an installation vouches for', () => {
  it('is trusted by those who trust the installation, from then on', async () => {
    await using place = await scratch()
    const ours = await createInstallation()
    const { primary, standby } = await twoHosts(place.path, ours)
    const content = segmentOf(first)
    for (const { path } of [primary, standby]) await writeFile(path(first), content)
    await primary.archive.push(primary.path(first))
    await assert.rejects(standby.archive.fetch(first), refused('wal.forged'))
    await assert.rejects(standby.archive.push(standby.path(first)), refused('wal.forged'))

    const [destination = assert.fail()] = primary.archive.config.destinations
    const asking = await listArchivers(destination, stream)
    assert.equal(asking.length, 2)
    const asked = asking.find(({ request }) => request.archiver === primary.archive.config.archiver.archiver)
    const { request } = asked ?? assert.fail()
    await vouchFor(destination, request, ours)
    await vouchFor(destination, request, ours)
    assert.deepEqual(await standby.archive.fetch(first), content)
    await standby.archive.push(standby.path(first))
    // The other way round nobody was asked.
    await writeFile(standby.path(second), segmentOf(second))
    await standby.archive.push(standby.path(second))
    await assert.rejects(primary.archive.fetch(second), refused('wal.forged'))
    for (const { archive } of [primary, standby]) await archive.close()
  })

  it('is not trusted for what somebody else has signed, or what was changed since', async () => {
    await using place = await scratch()
    const [ours, other] = [await createInstallation(), await createInstallation()]
    const { primary, standby } = await twoHosts(place.path, ours)
    await writeFile(primary.path(first), segmentOf(first))
    await primary.archive.push(primary.path(first))
    const [destination = assert.fail()] = primary.archive.config.destinations
    const listed = await listArchivers(destination, stream)
    const { request } =
      listed.find(one => one.request.archiver === primary.archive.config.archiver.archiver) ?? assert.fail()
    const folder = join(place.path, 'store', 'shop', 'logs', systemIdentifier, 'archivers')
    const vouched = async (by: InstallationKeys, as = by.installationId) => {
      await vouchFor(destination, request, by)
      const mine = (await readdir(folder)).find(name => name.endsWith(`.${by.installationId}.json`)) ?? ''
      const document = JSON.parse(await readFile(join(folder, mine), 'utf8'))
      return { document, path: join(folder, `${request.archiver}.${as}.json`) }
    }
    // Of an installation that nobody here trusts; under the name of one that is; of one that is, with another key; for another server.
    const { document: foreign, path } = await vouched(other, ours.installationId)
    await assert.rejects(standby.archive.fetch(first), refused('wal.forged'))
    await writeFile(path, JSON.stringify(foreign))
    await assert.rejects(standby.archive.fetch(first), refused('wal.forged'))
    await writeFile(path, JSON.stringify({ ...foreign, installationId: ours.installationId }))
    await assert.rejects(standby.archive.fetch(first), refused('wal.forged'))
    await writeFile(path, '')
    const elsewhere = { ...request, systemIdentifier: '7000000000000000001' }
    await vouchFor(destination, elsewhere, ours)
    const away = folder.replace(systemIdentifier, '7000000000000000001')
    await writeFile(path, await readFile(join(away, `${request.archiver}.${ours.installationId}.json`)))
    await assert.rejects(standby.archive.fetch(first), refused('wal.forged'))
    for (const { archive } of [primary, standby]) await archive.close()
  })
})
