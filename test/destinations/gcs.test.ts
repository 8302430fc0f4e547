import { startGcs } from '../servers/gcs.ts'
import { conformance } from './conformance.ts'
import { gcsSubject } from './subjects.ts'

conformance('GCS (fake-gcs-server)', async () => {
  const server = await startGcs()
  const subject = await gcsSubject(server, 'some prefix/of ours')
  return {
    ...subject,
    async close() {
      await subject.close()
      await server.stop()
    },
  }
})
