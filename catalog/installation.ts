/**
 * Who we are: one row, with the keys of the installation. The private halves are secrets like any other.
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { readable } from '../model/ids.ts'
import type { WriterIdentity } from '../model/records.ts'
import type { Catalog, CatalogDatabase } from './open.ts'
import { putSecrets, readSecrets } from './secret-rows.ts'
import type { SecretBox } from './secrets.ts'

const owner = 'installation'

/** Public and private JWKs. */
export interface InstallationKeys {
  /** Ed25519: signs manifests and epochs. */
  signing: Record<string, string>
  /** EC P-256: data keys are wrapped for it too, so that a worker can resume without a recipient's private key. */
  wrapping: Record<string, string>
}

/**
 * Makes the installation on first use. A catalog whose binding changed gets a new instance id, so that the destinations
 * it used to write are read-only until takeover: two copies must never both write.
 */
export async function ensureInstallation(
  db: CatalogDatabase,
  box: SecretBox,
  binding: string,
): Promise<{ newInstance: boolean }> {
  const row = await db.selectFrom('installation').selectAll().where('id', '=', 1).executeTakeFirst()
  if (row) {
    // Opened here once, so that a wrong secret key is found at the start and not in the middle of a backup.
    await readSecrets(db, box, owner)
    if (row.binding === binding) return { newInstance: false }
    await db
      .updateTable('installation')
      .set({ instance_id: randomId('instance'), binding })
      .where('id', '=', 1)
      .execute()
    return { newInstance: true }
  }
  const signing = generateKeyPairSync('ed25519')
  const wrapping = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const insert = async (tx: CatalogDatabase) => {
    await tx
      .insertInto('installation')
      .values({
        id: 1,
        installation_id: randomId('installation'),
        instance_id: randomId('instance'),
        binding,
        signing_public: JSON.stringify(signing.publicKey.export({ format: 'jwk' })),
        wrapping_public: JSON.stringify(wrapping.publicKey.export({ format: 'jwk' })),
        created_at: new Date().toISOString(),
      })
      .execute()
    await putSecrets(tx, box, owner, {
      signing: JSON.stringify(signing.privateKey.export({ format: 'jwk' })),
      wrapping: JSON.stringify(wrapping.privateKey.export({ format: 'jwk' })),
    })
  }
  await db.transaction().execute(insert)
  return { newInstance: false }
}

const randomId = (kind: string) => `${kind}-${readable(randomBytes(16))}`

export async function writerIdentity(catalog: Catalog): Promise<WriterIdentity> {
  const row = await installationRow(catalog)
  return {
    installationId: row.installation_id,
    instanceId: row.instance_id,
    publicKey: JSON.parse(row.signing_public),
  }
}

/** Public half of the installation's own wrapping key. */
export async function wrappingPublicKey(catalog: Catalog): Promise<Record<string, string>> {
  return JSON.parse((await installationRow(catalog)).wrapping_public)
}

export async function installationKeys(catalog: Catalog): Promise<InstallationKeys> {
  const { signing, wrapping } = await readSecrets(catalog.db, catalog.box, owner)
  if (signing === undefined || wrapping === undefined) throw new Error('the installation has no keys')
  return { signing: JSON.parse(signing), wrapping: JSON.parse(wrapping) }
}

const installationRow = (catalog: Catalog) =>
  catalog.db.selectFrom('installation').selectAll().where('id', '=', 1).executeTakeFirstOrThrow()
