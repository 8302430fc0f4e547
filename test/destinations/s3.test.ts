import { startVersitygw } from '../servers/versitygw.ts'
import { conformance } from './conformance.ts'
import { s3Subject } from './subjects.ts'

for (const versioning of [false, true]) {
  conformance(`S3 (versitygw${versioning ? ', versioned bucket' : ''})`, async () => {
    const server = await startVersitygw({ versioning })
    const subject = await s3Subject(server, 'some prefix/of ours')
    return {
      ...subject,
      async close() {
        await subject.close()
        await server.stop()
      },
    }
  })
}
