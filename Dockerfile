# vpnf in a container:
#   docker build -t vpnf .
#   docker run --rm -v "$PWD:/case" --user "$(id -u):$(id -g)" vpnf correlate in.pcap out.pcap -f html -o report.html
FROM python:3.13-slim-trixie AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY vpnforensics vpnforensics
COPY samples samples
RUN python -m venv /opt/vpnf \
 && /opt/vpnf/bin/pip install --no-cache-dir --disable-pip-version-check '.[parquet,plot,frames]'

FROM python:3.13-slim-trixie
# Kernels for a generic processor run on any machine that the image runs on, as fast (docs/adr/0007); root's
# folder of them is read by all users.
ENV PATH=/opt/vpnf/bin:$PATH \
    NUMBA_CPU_NAME=generic \
    NUMBA_CPU_FEATURES= \
    NUMBA_CACHE_DIR=/opt/vpnf/kernels \
    MPLCONFIGDIR=/tmp/matplotlib
COPY --from=build /opt/vpnf /opt/vpnf
RUN vpnf warm-up && chmod -R a+rX,go-w /opt/vpnf/kernels && useradd --create-home --uid 1000 analyst
USER 1000
WORKDIR /case
ENTRYPOINT ["vpnf"]
CMD ["--help"]
