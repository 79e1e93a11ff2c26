"""What `cnnzoo.bench` measures: each module makes the contestants of one question, `measure` lets them take turns."""
