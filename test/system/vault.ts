/** The destination `vault` of a system test: an object store behind a proxy that can hold, cut and lie. */
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { type Interceptor, startInterceptor } from '../servers/interceptor.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { type Stack, s3Input } from './stack.ts'

/** `destination` looks at the store past the proxy. The caller closes all three. */
export async function startVault(
  stack: Stack,
  prefix: string,
): Promise<{ store: Versitygw; front: Interceptor; destination: Destination }> {
  const store = await startVersitygw()
  const front = await startInterceptor(store.endpoint)
  const destination = await openDestination(store.destinationRecord(prefix), store.secrets)
  await stack.expectOk('POST', '/v1/destinations', s3Input(store, 'vault', prefix, front.url))
  return { store, front, destination }
}
